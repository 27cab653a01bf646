//! From what was seen to the words of RFC 4787.

use std::net::SocketAddr;

use ntcp_proto::nat::{Filtering, Mapping, PortAllocation};

pub(super) fn mapping(
    first: Option<SocketAddr>,
    other_port: Option<SocketAddr>,
    other_address: Option<SocketAddr>,
) -> Mapping {
    match (first == other_port, first == other_address) {
        (true, true) => Mapping::EndpointIndependent,
        (true, false) => Mapping::AddressDependent,
        (false, _) => Mapping::AddressAndPortDependent,
    }
}

pub(super) fn filtering(from_other_port: bool, from_other_address: bool) -> Filtering {
    match (from_other_port, from_other_address) {
        (_, true) => Filtering::EndpointIndependent,
        (true, false) => Filtering::AddressDependent,
        (false, false) => Filtering::AddressAndPortDependent,
    }
}

/// How ports were chosen: pairs of internal and external ones, in the order of their making.
pub(super) fn allocation(samples: &[(u16, u16)]) -> PortAllocation {
    /// Beyond this, a constant distance is no counter's.
    const LONGEST_STEP: u16 = 64;
    /// No block that carriers give to one subscriber is larger.
    const LARGEST_BLOCK: u16 = 4096;
    /// Ports that NATs give out, 1024 to 65535: an offset wraps around within them.
    const PORTS: i32 = 65_536 - 1024;
    let same = |values: &[u16]| values.windows(2).all(|pair| pair[0] == pair[1]);
    let offset = |(inside, outside): &(u16, u16)| {
        (i32::from(*outside) - i32::from(*inside)).rem_euclid(PORTS) as u16
    };
    let offsets: Vec<u16> = samples.iter().map(offset).collect();
    if offsets.iter().all(|offset| *offset == 0) {
        return PortAllocation::Preserved;
    }
    if same(&offsets) {
        return PortAllocation::Offset;
    }
    let mut steps: Vec<u16> =
        samples.windows(2).map(|pair| pair[1].1.wrapping_sub(pair[0].1)).collect();
    // A counter may begin again once on the way.
    if let Some(wrapped) = steps.iter().position(|step| *step > LONGEST_STEP) {
        steps.remove(wrapped);
    }
    if same(&steps) && steps.first().is_some_and(|step| (1..=LONGEST_STEP).contains(step)) {
        return PortAllocation::Sequential;
    }
    let outside = || samples.iter().map(|(_, outside)| *outside);
    let span = outside().max().unwrap_or(0) - outside().min().unwrap_or(0);
    if span < LARGEST_BLOCK { PortAllocation::Block } else { PortAllocation::Random }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_choice_of_ports_is_told_from_samples() {
        let told = |outside: [u16; 6]| {
            let inside = [40_000, 40_010, 40_007, 40_100, 40_031, 40_044];
            allocation(&inside.into_iter().zip(outside).collect::<Vec<_>>())
        };
        let preserved = [40_000, 40_010, 40_007, 40_100, 40_031, 40_044];
        assert_eq!(told(preserved), PortAllocation::Preserved);
        assert_eq!(told(preserved.map(|port| port - 9000)), PortAllocation::Offset);
        let wrapped =
            preserved.map(|port| if port > 40_030 { port - 39_000 } else { port + 25_512 });
        assert_eq!(told(wrapped), PortAllocation::Offset);
        assert_eq!(told([7, 11, 15, 19, 23, 27]), PortAllocation::Sequential);
        assert_eq!(told([2046, 2047, 1024, 1025, 1026, 1027]), PortAllocation::Sequential);
        assert_eq!(told([30_100, 30_007, 30_411, 30_300, 30_009, 30_511]), PortAllocation::Block);
        assert_eq!(told([1100, 60_007, 3411, 30_300, 10_009, 44_511]), PortAllocation::Random);
    }

    #[test]
    fn mapping_and_filtering_are_told_from_three_destinations() {
        let [a, b] = [1, 2].map(|port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        assert_eq!(mapping(a, a, a), Mapping::EndpointIndependent);
        assert_eq!(mapping(a, a, b), Mapping::AddressDependent);
        assert_eq!(mapping(a, b, a), Mapping::AddressAndPortDependent);
        assert_eq!(mapping(a, b, None), Mapping::AddressAndPortDependent);
        assert_eq!(filtering(true, true), Filtering::EndpointIndependent);
        assert_eq!(filtering(true, false), Filtering::AddressDependent);
        assert_eq!(filtering(false, false), Filtering::AddressAndPortDependent);
    }
}
