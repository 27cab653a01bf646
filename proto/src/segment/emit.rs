//! A segment as the bytes of a packet.

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::tcp::{self, MutableTcpPacket};

use super::Segment;
use super::ip::Addresses;

impl Segment {
    /// The whole IP packet, with its checksums; `None` if the two ends are of different families.
    ///
    /// ```
    /// use ntcp_proto::segment::{Options, Segment, flag};
    ///
    /// let syn = Segment {
    ///     source: "192.0.2.1:4000".parse()?,
    ///     destination: "198.51.100.2:5000".parse()?,
    ///     flags: flag::SYN,
    ///     sequence: 1,
    ///     acknowledgment: 0,
    ///     window: 64_240,
    ///     options: Options { max_segment_size: Some(1460), ..Options::default() },
    /// };
    /// let packet = syn.emit(64).expect("of one family");
    /// assert_eq!(packet.len(), 20 + 24);
    /// assert_eq!(Segment::parse(&packet), Some((syn, 64)));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn emit(&self, ttl: u8) -> Option<Vec<u8>> {
        let addresses = Addresses::new(self.source.ip(), self.destination.ip())?;
        addresses.packet(ttl, IpNextHeaderProtocols::Tcp, &self.header(addresses)?)
    }

    fn header(&self, addresses: Addresses) -> Option<Vec<u8>> {
        let options = self.options.list();
        let length = MutableTcpPacket::minimum_packet_size()
            + options.iter().map(tcp::TcpOptionPacket::packet_size).sum::<usize>();
        let mut bytes = vec![0; length];
        let mut header = MutableTcpPacket::new(&mut bytes)?;
        header.set_source(self.source.port());
        header.set_destination(self.destination.port());
        header.set_sequence(self.sequence);
        header.set_acknowledgement(self.acknowledgment);
        header.set_data_offset(u8::try_from(length / 4).ok()?);
        header.set_flags(self.flags);
        header.set_window(self.window);
        header.set_options(&options);
        let sum = match addresses {
            Addresses::V4(source, destination) => {
                tcp::ipv4_checksum(&header.to_immutable(), &source, &destination)
            }
            Addresses::V6(source, destination) => {
                tcp::ipv6_checksum(&header.to_immutable(), &source, &destination)
            }
        };
        header.set_checksum(sum);
        Some(bytes)
    }
}
