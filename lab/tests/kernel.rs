//! Laboratories of real kernels.

use ntcp_lab::kernel::{Error, Lab};

#[test]
fn a_host_behind_a_nat_reaches_the_server_by_name() {
    let lab = Lab::builder().home("a", "linux-masq").home("b", "masq").start().unwrap();
    let pinged = lab.command("a", "ping").args(["-c1", "server.lab"]).output().unwrap();
    assert!(pinged.status.success(), "{pinged:?}");
}

#[test]
fn an_unknown_host_is_an_error_that_names_the_known_ones() {
    let lab = Lab::builder().home("a", "public").start().unwrap();
    let error = lab.command("z", "true").status().unwrap_err();
    assert!(matches!(&error, Error::UnknownSpace { name, .. } if name == "z"), "{error}");
    assert!(error.to_string().contains("server"), "{error}");
}

#[test]
fn every_preset_is_what_it_declares() {
    use ntcp_lab::kernel::{Form, classify};
    use ntcp_lab::presets::{SITES, Site};
    let only = std::env::var("ONLY").ok();
    for form in [Form::Netfilter, Form::User] {
        for site in SITES {
            if only.as_ref().is_some_and(|o| o != site) {
                continue;
            }
            let t = std::time::Instant::now();
            let lab = match Lab::builder().home("a", site).form(form).start() {
                Ok(lab) => lab,
                Err(e) => {
                    eprintln!("{form:?} {site}: {e}");
                    continue;
                }
            };
            let told = classify(&lab, "a");
            let mut told = match told {
                Ok(t) => t,
                Err(e) => {
                    eprintln!("{form:?} {site}: FAIL {e}");
                    continue;
                }
            };
            told.udp.public_address = None;
            told.tcp.public_address = None;
            let want = site.parse::<Site>().unwrap().declared();
            if told == want {
                eprintln!("{form:?} {site}: ok {:?}", t.elapsed());
            } else {
                eprintln!("{form:?} {site}:\n   told {told:?}\n   want {want:?}");
            }
        }
    }
}
