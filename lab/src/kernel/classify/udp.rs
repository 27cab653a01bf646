//! What the boxes do with UDP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use ntcp_proto::nat::{Filtering, PortAllocation, UdpReport};

use super::verdict::{allocation, filtering, mapping};
use super::{Probe, SAMPLES, failed};
use crate::kernel::error::Result;
use crate::kernel::layout::SERVER_ADDRESSES;
use crate::kernel::plan::SERVER;

impl Probe<'_> {
    pub(super) fn udp(&mut self) -> Result<UdpReport> {
        let outside = [SERVER_ADDRESSES[0], SERVER_ADDRESSES[0], SERVER_ADDRESSES[1]]
            .map(|address| self.udp_socket(SERVER, address));
        let [first, other_port, other_address] = outside;
        let (first, other_port, other_address) = (first?, other_port?, other_address?);
        let inside = self.udp_socket(self.host, self.address)?;
        let Some(public) = self.udp_seen(&inside, &first)? else { return Ok(UdpReport::default()) };
        let by_port = self.udp_seen(&inside, &other_port)?;
        let by_address = self.udp_seen(&inside, &other_address)?;
        Ok(UdpReport {
            reachable: true,
            public_address: Some(public),
            mapping: Some(mapping(Some(public), by_port, by_address)),
            filtering: Some(self.udp_filtering(&first, &other_port, &other_address)?),
            port_allocation: Some(self.udp_allocation(&first)?),
            hairpin: Some(self.udp_hairpin(&first)?),
            lifetime_s: None,
        })
    }

    fn udp_socket(&self, space: &str, address: Ipv4Addr) -> Result<UdpSocket> {
        let socket = self.lab.udp_socket(space, (address, 0))?;
        socket.set_nonblocking(true).map_err(failed("fcntl"))?;
        Ok(socket)
    }

    /// Sends something; what it was.
    fn udp_send(&mut self, from: &UdpSocket, to: SocketAddr) -> Result<u64> {
        self.token += 1;
        from.send_to(&self.token.to_be_bytes(), to).map_err(failed("sendto"))?;
        Ok(self.token)
    }

    /// Where that came from, if it came.
    fn udp_received(at: &UdpSocket, token: u64) -> Option<SocketAddr> {
        let mut bytes = [0; 8];
        // An empty queue ends it.
        while let Ok((length, from)) = at.recv_from(&mut bytes) {
            if length == bytes.len() && u64::from_be_bytes(bytes) == token {
                return Some(from);
            }
        }
        None
    }

    /// The address with which a socket is seen by another.
    fn udp_seen(&mut self, inside: &UdpSocket, at: &UdpSocket) -> Result<Option<SocketAddr>> {
        let token = self.udp_send(inside, at.local_addr().map_err(failed("getsockname"))?)?;
        self.fence.wait()?;
        Ok(Self::udp_received(at, token))
    }

    fn udp_filtering(
        &mut self,
        first: &UdpSocket,
        other_port: &UdpSocket,
        other_address: &UdpSocket,
    ) -> Result<Filtering> {
        let inside = self.udp_socket(self.host, self.address)?;
        let Some(public) = self.udp_seen(&inside, first)? else { return Ok(Filtering::Unknown) };
        let mut comes_in = |from: &UdpSocket| -> Result<bool> {
            let token = self.udp_send(from, public)?;
            self.fence.wait()?;
            Ok(Self::udp_received(&inside, token).is_some())
        };
        Ok(filtering(comes_in(other_port)?, comes_in(other_address)?))
    }

    fn udp_allocation(&mut self, at: &UdpSocket) -> Result<PortAllocation> {
        let mut samples = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..SAMPLES {
            let inside = self.udp_socket(self.host, self.address)?;
            let own = inside.local_addr().map_err(failed("getsockname"))?;
            if let Some(seen) = self.udp_seen(&inside, at)? {
                samples.push((own.port(), seen.port()));
            }
            sockets.push(inside);
        }
        Ok(allocation(&samples))
    }

    fn udp_hairpin(&mut self, at: &UdpSocket) -> Result<bool> {
        let one = self.udp_socket(self.host, self.address)?;
        let other = self.udp_socket(self.host, self.address)?;
        let ends = (self.udp_seen(&one, at)?, self.udp_seen(&other, at)?);
        let (Some(public), Some(other_public)) = ends else { return Ok(false) };
        // Each has to send before the other's packet may pass a filter.
        self.udp_send(&one, other_public)?;
        let back = self.udp_send(&other, public)?;
        let forth = self.udp_send(&one, other_public)?;
        self.fence.wait()?;
        Ok(Self::udp_received(&one, back).is_some() || Self::udp_received(&other, forth).is_some())
    }
}
