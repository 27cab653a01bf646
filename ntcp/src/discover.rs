//! What NAT is this host behind, over UDP and over TCP, and what does it mean?
//!
//! [`discover`] gives the verdict alone, [`diagnose`] also what was seen, what follows from it and
//! what this process may do. Neither needs a node or a broker, only STUN servers.

mod privilege;

use std::fmt;
use std::time::Instant;

use ntcp_proto::Owner;
use ntcp_proto::discover::{Config as MachineConfig, DEFAULT_LIMIT, Discovery, Event};
use ntcp_proto::nat::NatReport;
use ntcp_proto::uri::TransportChoice;
use ntcp_settings::Config;
use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use ntcp_proto::discover::{Advice, Evidence, Findings, PortPattern, Reach};
pub use privilege::{Privilege, Privileges};

use crate::driver::Driver;
use crate::error::{Error, ErrorKind};
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
    let servers: Vec<_> = config.stun_servers().iter().map(host_port).collect();
    if servers.is_empty() {
        return Err(ErrorKind::NoStunServer.into());
    }
    let limit = DEFAULT_LIMIT.min(config.node.deadline);
    let config = MachineConfig { servers, transport: TransportChoice::Any, limit };
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
    Ok(Diagnosis { findings, privileges })
}

/// What [`diagnose`] found out: for people by [`Display`](fmt::Display), for programs by
/// [`Serialize`], whose form is the contract of `ntcp doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The verdict, what was seen, and what it means.
    pub findings: Findings,
    /// What this program may do beyond an ordinary one.
    pub privileges: Privileges,
}

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let NatReport { nat, udp, tcp } = &self.findings.report;
        let advice: Vec<String> = self.findings.advice.iter().map(ToString::to_string).collect();
        let mut object = serializer.serialize_struct("Diagnosis", 5)?;
        object.serialize_field("nat", nat)?;
        object.serialize_field("udp", udp)?;
        object.serialize_field("tcp", tcp)?;
        object.serialize_field("privileges", &self.privileges)?;
        object.serialize_field("advice", &advice)?;
        object.end()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.fmt(f)?;
        writeln!(f, "\nWhat this program may do")?;
        self.privileges.fmt(f)
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
        let diagnosis = Diagnosis { findings, privileges };
        let json = serde_json::to_value(&diagnosis).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["advice", "nat", "privileges", "tcp", "udp"]);
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
        let more = ["inbound_syn_after_syn", "isn", "unsolicited_syn"];
        let mut tcp: Vec<&str> = udp.into_iter().chain(more).collect();
        tcp.sort_unstable();
        assert_eq!(keys("tcp"), tcp);
        assert!(json["nat"].is_null() && json["udp"]["mapping"].is_null());
        assert_eq!(json["privileges"], serde_json::json!(["net_raw"]));
        assert!(json["advice"][0].as_str().unwrap().contains("No STUN server answered"));
    }
}
