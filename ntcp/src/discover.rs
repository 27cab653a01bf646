//! What NAT is this host behind, over UDP and over TCP, and what does it mean?
//!
//! [`discover`] gives the verdict alone, [`diagnose`] also what was seen, what follows from it and
//! what this process may do. Neither needs a node or a broker, only STUN servers.

mod privilege;

use std::fmt;
use std::time::{Duration, Instant};

use ntcp_proto::Owner;
use ntcp_proto::discover::{
    Config as MachineConfig, DEFAULT_LIMIT, Discovery, Event, LINUX_SEQUENCE_CLOCK,
};
use ntcp_proto::nat::NatReport;
use ntcp_settings::Config;
use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use ntcp_proto::discover::{Advice, Evidence, Findings, PortControl, PortPattern, Reach};
pub use privilege::{Privilege, Privileges};

use crate::driver::Driver;
use crate::error::{Error, ErrorKind};
use crate::io::interfaces;
use crate::node::{host_port, seed};

/// The names of a discovery's commands; it is alone in its driver.
const DISCOVERY: Owner = Owner(0);

/// Asks the STUN servers of `config` and tells what this host's NATs do.
///
/// Takes about half a second, and never more than five, nor more than `[node] deadline`. Cancel safe:
/// dropping the future closes every socket.
///
/// # Errors
///
/// [`ErrorKind::NoStunServer`] if there is none to ask, [`ErrorKind::System`]. That no server
/// answered is no error but a report that says so.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), ntcp::Error> {
/// let report = ntcp::discover(&ntcp::Config::find()?).await?;
/// println!("behind a NAT: {:?}, over UDP: {:?}", report.nat, report.udp.mapping);
/// # Ok(())
/// # }
/// ```
pub async fn discover(config: &Config) -> Result<NatReport, Error> {
    Ok(diagnose(config).await?.findings.report)
}

/// Like [`discover`], with everything that was seen and what it means.
///
/// # Errors
///
/// As [`discover`].
pub async fn diagnose(config: &Config) -> Result<Diagnosis, Error> {
    diagnose_with(config, Extent::default()).await
}

/// How much is to be found out beyond what takes half a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// How long holes and idle connections live, for times up to this; it takes as long, whatever
    /// `[node] deadline` says. The longest time that is tried is 15 minutes. Default: not at all.
    pub timers: Option<Duration>,
    /// Whether the router takes orders about its ports (PCP, NAT-PMP, UPnP); it takes a second. Default: no.
    pub port_control: bool,
}

/// What a measurement of timers takes beyond its longest time.
const AFTER_TIMERS: Duration = Duration::from_secs(10);

/// Like [`diagnose`], and as much more as `extent` says.
///
/// # Errors
///
/// As [`discover`].
pub async fn diagnose_with(config: &Config, extent: Extent) -> Result<Diagnosis, Error> {
    let Extent { timers, port_control } = extent;
    let servers: Vec<_> = config.stun_servers().iter().map(host_port).collect();
    if servers.is_empty() {
        return Err(ErrorKind::NoStunServer.into());
    }
    let limit = DEFAULT_LIMIT.min(config.node.deadline);
    let limit = timers.map_or(limit, |longest| longest + AFTER_TIMERS);
    let sequence_clock = cfg!(target_os = "linux").then_some(LINUX_SEQUENCE_CLOCK);
    let gateway = if port_control { interfaces::gateway() } else { None };
    let usual = MachineConfig::new(servers);
    let config = MachineConfig { limit, sequence_clock, timers, gateway, ..usual };
    let machine = Discovery::new(config, DISCOVERY, seed()?, Instant::now());
    // The handle is dropped: nobody commands a discovery, so the driver ends with it.
    let (driver, _) = Driver::new(machine);
    let mut findings = None;
    driver
        .run(|event, _, _, _| match event {
            Event::Finished(finished) => findings = Some(*finished),
            Event::Reachable { transport, server, public_address } => {
                tracing::debug!(?transport, %server, %public_address, "reachable");
            }
        })
        .await;
    let findings = findings.ok_or(ErrorKind::Stopped)?;
    let privileges = blocking::unblock(Privileges::current).await;
    Ok(Diagnosis { findings, privileges, spoofing: None })
}

/// What [`diagnose`] found out: for people by [`Display`](fmt::Display), for programs by
/// [`Serialize`], whose form is the contract of `ntcp doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The verdict, what was seen, and what it means.
    pub findings: Findings,
    /// What this program may do beyond an ordinary one.
    pub privileges: Privileges,
    /// Whether this network lets packets with foreign sources out, if somebody found that out.
    pub spoofing: Option<Spoofing>,
}

/// Whether a network lets packets with foreign sources out, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoofing {
    /// Any.
    Possible,
    /// Those of neighbours only.
    Nearby,
    /// None.
    Filtered,
    /// A NAT puts in its own address.
    Translated,
    /// This program may not try.
    NotPermitted,
}

impl fmt::Display for Spoofing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Possible => "packets with foreign sources leave this network",
            Self::Nearby => "packets with the sources of neighbours leave this network, no others",
            Self::Filtered => "no packets with foreign sources leave this network",
            Self::Translated => "a NAT puts its own address into packets with foreign sources",
            Self::NotPermitted => {
                "whether packets with foreign sources get out needs CAP_NET_RAW to try"
            }
        })
    }
}

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let NatReport { nat, udp, tcp } = &self.findings.report;
        let advice: Vec<String> = self.findings.advice.iter().map(ToString::to_string).collect();
        let mut object = serializer.serialize_struct("Diagnosis", 7)?;
        object.serialize_field("nat", nat)?;
        object.serialize_field("udp", udp)?;
        object.serialize_field("tcp", tcp)?;
        object.serialize_field("port_control", &self.findings.port_control)?;
        object.serialize_field("spoofing", &self.spoofing)?;
        object.serialize_field("privileges", &self.privileges)?;
        object.serialize_field("advice", &advice)?;
        object.end()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.fmt(f)?;
        writeln!(f, "\nWhat this program may do")?;
        self.privileges.fmt(f)?;
        match &self.spoofing {
            Some(spoofing) => writeln!(f, "  {spoofing}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_keys_of_the_contract_and_null_for_what_is_unknown() {
        let findings = Findings { advice: vec![Advice::Offline], ..Findings::default() };
        let held = vec![(Privilege::NetRaw, "itself".into())];
        let privileges = Privileges { held, missing: Vec::new() };
        let diagnosis = Diagnosis { findings, privileges, spoofing: None };
        let json = serde_json::to_value(&diagnosis).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["advice", "nat", "port_control", "privileges", "spoofing", "tcp", "udp"]);
        let keys = |name: &str| -> Vec<String> {
            json[name].as_object().unwrap().keys().cloned().collect()
        };
        let udp = [
            "filtering",
            "hairpin",
            "lifetime_s",
            "mapping",
            "port_allocation",
            "public_address",
            "reachable",
        ];
        assert_eq!(keys("udp"), udp);
        let more = [
            "hole_s",
            "inbound_syn_after_icmp",
            "inbound_syn_after_rst",
            "inbound_syn_after_syn",
            "isn",
            "isn_follows_clock",
            "mid_stream",
            "new_port_each_connection",
            "opener_ttl",
            "syn",
            "syn_ack_after_syn",
            "unsolicited_syn",
        ];
        let mut tcp: Vec<&str> = udp.into_iter().chain(more).collect();
        tcp.sort_unstable();
        assert_eq!(keys("tcp"), tcp);
        assert!(json["nat"].is_null() && json["udp"]["mapping"].is_null());
        assert_eq!(json["privileges"], serde_json::json!(["net_raw"]));
        assert!(json["advice"][0].as_str().unwrap().contains("No STUN server answered"));
    }
}
