//! Pairs of NATs that must connect, each over the transports that can.

use std::net::Ipv4Addr;
use std::time::Duration;

use ntcp_lab::kernel::{Access, Form, Lab};
use serde_json::Value;

use super::{LINE, connected, homes, on_stage};

/// Connects `a` to `b` over each of these; the reports.
fn connect(a: &str, b: &str, transports: &[&str]) -> Vec<Value> {
    let what = format!("{a} x {b}");
    on_stage(homes(a, b), |_, stage| {
        transports.iter().map(|transport| connected(stage, transport, &what)).collect()
    })
}

#[test]
fn ordinary_homes_connect_over_every_transport() {
    connect("linux-masq", "port-restricted", &["tcp", "udp", "any"]);
    connect("firewall", "public", &["tcp", "udp", "any"]);
}

#[test]
fn homes_that_answer_strangers_connect_over_every_transport() {
    connect("masq,in=reset", "masq,in=admin", &["tcp", "udp"]);
    connect("masq,in=open", "masq,in=open", &["tcp", "udp", "any"]);
}

#[test]
fn a_random_symmetric_nat_reaches_a_full_cone() {
    let reports = connect("full-cone", "linux-random", &["tcp", "udp"]);
    assert_eq!(reports[0]["strategy"], "connect_listen", "{:#}", reports[0]);
    // The side that connects cannot tell a listener from a peer that connects at the same time.
    connect("linux-random", "full-cone", &["tcp", "udp"]);
}

#[test]
fn one_side_that_drops_crossing_syns_is_enough_of_a_hindrance() {
    connect("masq,syn=strict", "masq", &["tcp", "udp"]);
}

#[test]
fn a_host_without_udp_reaches_others_over_tcp() {
    let reports = connect("masq,udp=block", "masq", &["tcp", "any"]);
    assert_eq!(reports[1]["transport"], "tcp", "{:#}", reports[1]);
}

#[test]
fn a_carrier_behind_a_home_is_traversed_as_well() {
    connect("masq@port-restricted", "masq", &["tcp", "udp"]);
}

#[test]
fn sequential_ports_are_foretold_on_one_side_and_on_both() {
    for (a, b) in [("symmetric-seq", "linux-masq"), ("symmetric-seq", "symmetric-seq")] {
        let reports = connect(a, b, &["tcp"]);
        let strategy = reports[0]["strategy"].as_str().unwrap();
        // The side whose ports are foretold only sees the peer's SYN come.
        let known = ["port_prediction", "simultaneous_open", "shielded_opener"];
        assert!(known.contains(&strategy), "{:#}", reports[0]);
    }
}

#[test]
fn a_port_that_was_given_up_over_an_rst_is_replaced() {
    let access = Access { delay: LINE, ..Access::default() };
    let lab = homes("port-restricted,rst=kill", "masq,in=reset").form(Form::Auto);
    on_stage(lab, |_, stage| {
        for skew in [0, 100, 300] {
            stage.skew("b", access, Duration::from_millis(skew)).unwrap();
            connected(stage, "tcp", "a NAT that an RST makes forget");
        }
    });
}

#[test]
fn a_random_symmetric_nat_meets_a_port_restricted_one() {
    let reports = connect("linux-random", "port-restricted", &["tcp"]);
    assert_eq!(reports[0]["strategy"], "port_coverage", "{:#}", reports[0]);
    assert!(reports[0]["elapsed_ms"].as_f64().unwrap() < 6_000.0, "{:#}", reports[0]);
}

#[test]
fn two_strict_nats_are_passed_by_a_ghost() {
    let reports = connect("masq,syn=strict", "port-restricted,syn=strict", &["tcp"]);
    assert_eq!(reports[0]["strategy"], "ghost_handshake", "{:#}", reports[0]);
}

#[test]
fn the_labs_own_nat_is_traversed_as_netfilter_is() {
    let lab = homes("offset-cone", "linux-masq").form(Form::Auto);
    on_stage(lab, |_, stage| {
        for transport in ["tcp", "udp"] {
            connected(stage, transport, "offset-cone x linux-masq");
        }
    });
}

#[test]
fn two_homes_with_the_same_private_range_connect() {
    let range = Ipv4Addr::new(192, 168, 0, 0);
    let lab = Lab::builder().delay(LINE).home("a", "masq").lan(range).home("b", "masq").lan(range);
    on_stage(lab, |lab, stage| {
        assert_eq!(lab.host("a").unwrap().address, lab.host("b").unwrap().address);
        for transport in ["tcp", "udp"] {
            connected(stage, transport, "the same range");
        }
    });
}

#[test]
fn two_hosts_of_one_network_connect_without_leaving_it() {
    let lab = Lab::builder().delay(LINE).home("b", "linux-random").neighbour("a");
    on_stage(lab, |lab, stage| {
        let address = lab.host("b").unwrap().address.to_string();
        for transport in ["tcp", "udp"] {
            let report = connected(stage, transport, "neighbours");
            assert_eq!(report["strategy"], "direct", "{report:#}");
            let remote = report["remote"].as_str().unwrap();
            assert!(remote.starts_with(&format!("{address}:")), "{report:#}");
        }
    });
}

#[test]
fn ipv6_connects_what_ipv4_cannot() {
    let lab = Lab::builder().delay(LINE);
    let lab = lab.home("a", "linux-random").ipv6().home("b", "linux-random").ipv6();
    on_stage(lab, |lab, stage| {
        let address = lab.host("b").unwrap().address_v6.expect("the kernel has IPv6");
        for transport in ["tcp", "udp"] {
            let report = connected(stage, transport, "IPv6");
            let remote = report["remote"].as_str().unwrap();
            assert!(remote.starts_with(&format!("[{address}]:")), "{report:#}");
        }
    });
}

#[test]
fn loss_on_every_line_delays_but_does_not_prevent() {
    on_stage(homes("linux-masq", "port-restricted").loss(0.05).seed(5), |_, stage| {
        for transport in ["tcp", "udp", "any"] {
            connected(stage, transport, "5 % loss");
        }
    });
}

#[test]
fn a_callee_that_hears_of_the_call_late_is_met_all_the_same() {
    let access = Access { delay: LINE, ..Access::default() };
    on_stage(homes("linux-masq", "port-restricted"), |_, stage| {
        for skew in [100, 300] {
            stage.skew("b", access, Duration::from_millis(skew)).unwrap();
            for transport in ["tcp", "udp"] {
                let report = connected(stage, transport, "a late callee");
                let elapsed = report["elapsed_ms"].as_f64().unwrap();
                assert!(elapsed >= skew as f64, "{skew} ms late: {report:#}");
            }
        }
    });
}

/// Retries are paced there, and in between the listener would answer with what the own NAT takes for invalid.
#[test]
fn near_peers_meet_where_a_nat_rejects_strangers_by_icmp() {
    for other in ["masq,in=admin", "masq,in=reset"] {
        let lab = Lab::builder().delay(Duration::ZERO).home("a", "masq,in=admin").home("b", other);
        on_stage(lab, |_, stage| {
            for _ in 0..3 {
                connected(stage, "tcp", "two near peers");
            }
        });
    }
}

/// Over every transport, with 30 % of all packets from and to the servers lost.
fn connect_past_lossy_servers(a: &str, b: &str) {
    let server = Access { delay: LINE, loss: 0.3, ..Access::default() };
    let lab = homes(a, b).server_access(server).seed(7);
    on_stage(lab, |_, stage| {
        for transport in ["udp", "tcp", "any"] {
            let what = format!("{a} x {b}, 30 % loss at the servers");
            connected(stage, transport, &what);
        }
    });
}

#[test]
fn heavy_loss_on_the_way_to_the_servers_delays_but_does_not_prevent() {
    connect_past_lossy_servers("linux-masq", "linux-masq");
}

#[test]
fn heavy_loss_on_the_way_to_the_servers_does_not_prevent_where_ports_change() {
    connect_past_lossy_servers("linux-masq", "port-restricted");
}
