//! Which strategies run, in which part, and why the others do not: one pure table.
//!
//! Both sides compute it from the same facts, ours and theirs swapped, and so agree on the parts.
//! What only one side knows does not part them for good: every part that waits for the other one
//! stops waiting after a while, and openers become dialers when the kernel repeats their SYN.
//!
//! | strategy | runs when | parts |
//! |---|---|---|
//! | direct | always | both |
//! | simultaneous open | always, unless the shielded opener goes first | both |
//! | connect and listen | always | both |
//! | shielded opener | both NATs answer strangers: at once; else after refusals | one opens, the other dials |
//! | port prediction | one side's ports are sequential and the other's are not random | both |
//! | port coverage | one side's ports are random and the other's are steady; after the listener if the steady one's filter lets other ports in | the steady one covers, the other draws |
//! | SYN replay | after refusals, where both may send segments and some NAT answers strangers | both |
//! | SYN-ACK injection | both may send segments, and SYNs are not known to pass | both |
//! | SYN injection | one may send segments and the other tell its SYN, and SYNs are not known to pass | who may send dials, the other opens |
//! | connect, close and listen | both ask for it, and segments are not made by hand | the callee opens and listens, the caller dials |
//! | spoofed SYN-ACK | the broker forges, both sides know their SYNs, and SYNs are not known to pass | both |
//! | ghost handshake | both may assume connections, and SYNs are not known to pass | both |

use std::cmp::Ordering;
use std::fmt;

use super::forgery::Means;
use super::spoofed_syn_ack::Knowledge;
use super::survey::Ports;
use crate::nat::{
    Filtering, InboundSynAfterSyn, InitialSequence, Mapping, MidStream, NatReport, OutboundSynAck,
    PortAllocation, UnsolicitedSyn,
};
use crate::puncher::report::Strategy;
use crate::signal::Role;

/// What a host may do with TCP that an ordinary program may not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Open a connection without a handshake, and choose sequence numbers (`CAP_NET_ADMIN`).
    pub assume: bool,
    /// See its own SYNs (`CAP_NET_RAW`).
    pub capture: bool,
    /// Send raw segments (`CAP_NET_RAW`).
    pub inject: bool,
}

impl Privileges {
    /// Those of any program.
    pub const NONE: Self = Self { assume: false, capture: false, inject: false };

    /// As three bits.
    pub(super) fn to_bits(self) -> u8 {
        u8::from(self.assume) | u8::from(self.capture) << 1 | u8::from(self.inject) << 2
    }

    /// The reverse; other bits are ignored.
    pub(super) fn from_bits(bits: u8) -> Self {
        let bit = |number: u8| bits & 1 << number != 0;
        Self { assume: bit(0), capture: bit(1), inject: bit(2) }
    }
}

/// What is known of one side. `None` is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the outside sees of its ports.
    pub ports: Ports,
    /// Its NAT answers strangers' SYNs with an RST or an ICMP error.
    pub answers: Option<bool>,
    /// Its NAT lets a SYN in after one went out.
    pub admits_syn: Option<bool>,
    /// Its NAT lets SYNs in from other ports of an address that was sent to.
    pub lets_ports_in: Option<bool>,
    /// Its NAT leaves sequence numbers alone.
    pub keeps_sequence: Option<bool>,
    /// Its NAT lets a connection begin in the middle.
    pub picks_up: Option<bool>,
    /// What it may do.
    pub privileges: Option<Privileges>,
    /// It asks for connect, close and listen.
    pub classic: bool,
    /// Its broker answers SYNs in the name of others, as far as is known.
    pub broker_forges: Option<bool>,
    /// A listener of it is reached from an end that has refused it with an RST.
    pub listener_reached: Option<bool>,
    /// A hole of its NAT outlives the end of the TTL of the SYN that has opened it.
    pub hole_outlives_ttl: Option<bool>,
    /// A hole of its NAT outlives an RST that comes in.
    pub hole_outlives_rst: Option<bool>,
    /// Its NAT lets a SYN-ACK out after a SYN went out, and none came in.
    pub answers_early: Option<bool>,
}

impl Facts {
    /// What a report tells.
    pub fn of(report: Option<&NatReport>) -> Self {
        let Some(NatReport { nat, tcp, .. }) = report else { return Self::default() };
        let ports = match (nat, tcp.mapping, tcp.port_allocation) {
            (Some(false), _, _) | (_, Some(Mapping::EndpointIndependent), _) => Ports::Steady,
            (_, _, Some(PortAllocation::Preserved | PortAllocation::Offset)) => Ports::Steady,
            (_, Some(_), Some(PortAllocation::Random)) => Ports::ANYWHERE,
            // Which ones needs fresh samples.
            (_, Some(_), Some(PortAllocation::Sequential | PortAllocation::Block) | None)
            | (_, None, _) => Ports::Unknown,
        };
        Self {
            ports,
            answers: tcp.unsolicited_syn.map(|answer| match answer {
                UnsolicitedSyn::Silent => false,
                UnsolicitedSyn::Rst | UnsolicitedSyn::Icmp => true,
            }),
            admits_syn: tcp.inbound_syn_after_syn.and_then(|fate| match fate {
                InboundSynAfterSyn::Accepted => Some(true),
                InboundSynAfterSyn::Dropped | InboundSynAfterSyn::Rst => Some(false),
                InboundSynAfterSyn::Unknown => None,
            }),
            lets_ports_in: tcp.filtering.and_then(|filtering| match filtering {
                Filtering::EndpointIndependent | Filtering::AddressDependent => Some(true),
                Filtering::AddressAndPortDependent => Some(false),
                Filtering::Unknown => None,
            }),
            keeps_sequence: tcp.isn.map(|isn| isn == InitialSequence::Preserved),
            picks_up: tcp.mid_stream.map(|fate| fate == MidStream::PickedUp),
            privileges: None,
            classic: false,
            broker_forges: None,
            listener_reached: None,
            hole_outlives_ttl: outlives(tcp.inbound_syn_after_icmp),
            hole_outlives_rst: outlives(tcp.inbound_syn_after_rst),
            answers_early: tcp.syn_ack_after_syn.map(|fate| fate == OutboundSynAck::Passed),
        }
    }

    /// Whether a SYN of this side can open its NAT for one that comes later: with a TTL that ends on the way, or
    /// all the way, where an answer to it does no harm.
    pub fn can_open(&self) -> Option<bool> {
        match (self.hole_outlives_ttl, self.hole_outlives_rst) {
            (Some(true), _) | (Some(false), Some(true)) => Some(true),
            (Some(false), Some(false) | None) => Some(false),
            (None, _) => None,
        }
    }

    /// How likely it is that it can. Most holes outlive the end of a TTL; what goes all the way may be answered with
    /// an ICMP error as well, to which no socket is deaf.
    fn chance_to_open(&self) -> u8 {
        match (self.hole_outlives_ttl, self.can_open()) {
            (Some(true), _) => 3,
            (None, _) => 2,
            (Some(false), Some(true)) => 1,
            (Some(false), _) => 0,
        }
    }
}

/// Whether a hole has outlived what went before a SYN of this fate.
fn outlives(fate: Option<InboundSynAfterSyn>) -> Option<bool> {
    match fate? {
        InboundSynAfterSyn::Accepted => Some(true),
        InboundSynAfterSyn::Dropped | InboundSynAfterSyn::Rst => Some(false),
        InboundSynAfterSyn::Unknown => None,
    }
}

/// What this side does in a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The same as the other side.
    Both,
    /// Opens its own NAT with a SYN that dies on the way, and waits.
    Opener,
    /// Sends the SYN that goes all the way.
    Dialer,
    /// Opens its one port for many ports of the peer.
    Cover,
    /// Tries its luck from many ports of its own.
    Draw,
}

/// What becomes of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Run(Part),
    /// It runs once the peer's NAT has refused what went before.
    AfterRefusals(Part),
    /// It runs once what should do without it had its time.
    AfterSilence(Part),
    /// It is left out.
    Skip(Reason),
}

/// Why a strategy is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Neither side's ports are random.
    NotNeeded,
    /// Neither side's ports follow one another.
    NothingToPredict,
    /// One side's next port is anybody's guess.
    Unpredictable,
    /// Both sides' ports are random: no number of SYNs that a network should bear would do.
    BothRandom,
    /// The other side's port changes with every destination, so that nothing stays open.
    NothingSteady,
    /// What the ports look like from outside is not known.
    PortsUnknown,
    /// This host may not do it.
    NotPrivileged(&'static str),
    /// The peer may not do it.
    PeerNotPrivileged(&'static str),
    /// A NAT on the way lets no connection begin without a SYN.
    NotPickedUp,
    /// A NAT on the way changes sequence numbers.
    SequenceRewritten,
    /// No broker here sends in the name of others.
    BrokerCannotSpoof,
    /// Nobody asked for it; it fails at every Linux NAT.
    OptIn,
    /// Simultaneous open is known to pass.
    SynsPass,
    /// Neither NAT lets a SYN in.
    NoSynPasses,
    /// Both sides may make segments by hand, which does it without the fault.
    ByHand,
    /// Neither NAT answers strangers, so that nothing is refused.
    NobodyAnswers,
    /// Behind neither NAT is a listener reached after a SYN of its own was refused.
    NoListenerReached,
    /// No NAT that a SYN of its own could open for the other side's stays open.
    HoleEnds,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNeeded => "neither side's ports are random",
            Self::NothingToPredict => "neither side's ports follow one another",
            Self::Unpredictable => "one side's next port cannot be foretold",
            Self::BothRandom => "both sides' ports are random",
            Self::NothingSteady => "neither side's port stays the same towards others",
            Self::PortsUnknown => "it is not known what the ports look like from outside",
            Self::NotPrivileged(capability) => return write!(f, "needs {capability} here"),
            Self::PeerNotPrivileged(capability) => {
                return write!(f, "needs {capability} at the peer");
            }
            Self::NotPickedUp => "a NAT lets no connection begin without a SYN",
            Self::SequenceRewritten => "a NAT rewrites sequence numbers",
            Self::BrokerCannotSpoof => "the broker cannot spoof",
            Self::OptIn => "not asked for: it fails at every NAT that follows sequence numbers",
            Self::SynsPass => "SYNs are known to pass",
            Self::ByHand => "segments made by hand do it better",
            Self::NoSynPasses => "neither NAT lets a SYN in",
            Self::NobodyAnswers => "neither NAT answers strangers",
            Self::NoListenerReached => "behind neither NAT is a listener reached",
            Self::HoleEnds => "a SYN that dies on the way shuts the NAT that it should open",
        })
    }
}

/// One strategy and its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub strategy: Strategy,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Of a hundred tries between NATs like these, so many came through, if that is known.
    pub hint: Option<u8>,
}

/// All strategies, in the order in which they would run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each strategy.
    pub entries: Vec<Entry>,
}

impl Plan {
    /// The plan of the side with `role`, for which `ours` and `theirs` hold.
    pub fn of(role: Role, ours: &Facts, theirs: &Facts) -> Self {
        let opener = shielded_opener(role, ours, theirs);
        let together = match opener {
            Verdict::Run(_) => Verdict::AfterRefusals(Part::Both),
            Verdict::AfterRefusals(_) | Verdict::AfterSilence(_) | Verdict::Skip(_) => {
                Verdict::Run(Part::Both)
            }
        };
        let entries = [
            (Strategy::Direct, Verdict::Run(Part::Both)),
            (Strategy::SimultaneousOpen, together),
            (Strategy::ConnectListen, Verdict::Run(Part::Both)),
            (Strategy::ShieldedOpener, opener),
            (Strategy::PortPrediction, port_prediction(role, ours.ports, theirs.ports)),
            (Strategy::PortCoverage, port_coverage(ours, theirs)),
            (Strategy::SynReplay, syn_replay(ours, theirs)),
            (Strategy::GhostHandshake, ghost_handshake(ours, theirs)),
            (Strategy::SynAckInjection, syn_ack_injection(ours, theirs)),
            (Strategy::SynInjection, syn_injection(ours, theirs)),
            (Strategy::SpoofedSynAck, spoofed_syn_ack(ours, theirs)),
            (Strategy::ConnectCloseListen, connect_close_listen(role, ours, theirs)),
        ];
        let entry = |(strategy, verdict)| Entry { strategy, verdict, hint: None };
        Self { entries: entries.into_iter().map(entry).collect() }
    }

    /// What becomes of `strategy`; `None` if the table does not know it.
    pub fn verdict(&self, strategy: Strategy) -> Option<Verdict> {
        self.entries.iter().find(|entry| entry.strategy == strategy).map(|entry| entry.verdict)
    }

    /// Of a hundred tries with `strategy` between NATs like these, so many came through.
    pub fn hint(&self, strategy: Strategy) -> Option<u8> {
        self.entries.iter().find(|entry| entry.strategy == strategy)?.hint
    }

    /// Our part in `strategy`, if it runs from the start.
    pub fn part(&self, strategy: Strategy) -> Option<Part> {
        match self.verdict(strategy) {
            Some(Verdict::Run(part)) => Some(part),
            Some(Verdict::AfterRefusals(_) | Verdict::AfterSilence(_) | Verdict::Skip(_))
            | None => None,
        }
    }

    /// What is left out, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (Strategy, Reason)> {
        self.entries.iter().filter_map(|entry| match entry.verdict {
            Verdict::Skip(reason) => Some((entry.strategy, reason)),
            Verdict::Run(_) | Verdict::AfterRefusals(_) | Verdict::AfterSilence(_) => None,
        })
    }
}

/// The opener is the side whose NAT lets SYNs in; if both do, the one that is known to be able to open it;
/// else the callee, since the dialer's path stands first and the caller is the one who waits. Who is known
/// not to be able does not open: that would shut what a SYN that goes all the way opens.
fn shielded_opener(role: Role, ours: &Facts, theirs: &Facts) -> Verdict {
    let by_role = match role {
        Role::Controlling => Part::Dialer,
        Role::Controlled => Part::Opener,
    };
    let by_hole = match ours.chance_to_open().cmp(&theirs.chance_to_open()) {
        Ordering::Greater => Part::Opener,
        Ordering::Less => Part::Dialer,
        Ordering::Equal => by_role,
    };
    let part = match (ours.admits_syn, theirs.admits_syn) {
        (Some(false), Some(true) | None) => Part::Dialer,
        (Some(true) | None, Some(false)) => Part::Opener,
        (Some(false), Some(false)) | (Some(true) | None, Some(true) | None) => by_hole,
    };
    let opener = if part == Part::Opener { ours } else { theirs };
    if opener.can_open() == Some(false) {
        Verdict::Skip(Reason::HoleEnds)
    } else if ours.answers == Some(true) && theirs.answers == Some(true) {
        Verdict::Run(part)
    } else {
        Verdict::AfterRefusals(part)
    }
}

fn port_prediction(role: Role, ours: Ports, theirs: Ports) -> Verdict {
    use Ports::{Random, Sequential, Steady, Unknown};
    match (ours, theirs) {
        (Sequential { .. }, Sequential { .. }) => Verdict::Run(match role {
            Role::Controlling => Part::Dialer,
            Role::Controlled => Part::Opener,
        }),
        (Sequential { .. }, Steady | Unknown) => Verdict::Run(Part::Opener),
        (Steady | Unknown, Sequential { .. }) => Verdict::Run(Part::Dialer),
        (Random { .. }, Sequential { .. }) | (Sequential { .. }, Random { .. }) => {
            Verdict::Skip(Reason::Unpredictable)
        }
        (Steady | Random { .. } | Unknown, Steady | Random { .. } | Unknown) => {
            Verdict::Skip(Reason::NothingToPredict)
        }
    }
}

fn port_coverage(ours: &Facts, theirs: &Facts) -> Verdict {
    use Ports::{Random, Sequential, Steady, Unknown};
    // One hole is enough for all ports, and the dialer opens that.
    let run = |steady: &Facts, part| match steady.lets_ports_in {
        Some(true) => Verdict::AfterSilence(part),
        Some(false) | None => Verdict::Run(part),
    };
    match (ours.ports, theirs.ports) {
        (Random { .. }, Steady) => run(theirs, Part::Draw),
        (Steady, Random { .. }) => run(ours, Part::Cover),
        (Random { .. }, Random { .. }) => Verdict::Skip(Reason::BothRandom),
        (Random { .. }, Sequential { .. }) | (Sequential { .. }, Random { .. }) => {
            Verdict::Skip(Reason::NothingSteady)
        }
        (Unknown, _) | (_, Unknown) => Verdict::Skip(Reason::PortsUnknown),
        (Steady | Sequential { .. }, Steady | Sequential { .. }) => {
            Verdict::Skip(Reason::NotNeeded)
        }
    }
}

fn ghost_handshake(ours: &Facts, theirs: &Facts) -> Verdict {
    const CAPABILITY: &str = "CAP_NET_ADMIN";
    let may = |facts: &Facts| facts.privileges.is_some_and(|held| held.assume);
    let rewritten = |facts: &Facts| facts.keeps_sequence == Some(false);
    if !may(ours) {
        Verdict::Skip(Reason::NotPrivileged(CAPABILITY))
    } else if !may(theirs) {
        Verdict::Skip(Reason::PeerNotPrivileged(CAPABILITY))
    } else if rewritten(ours) || rewritten(theirs) {
        Verdict::Skip(Reason::SequenceRewritten)
    } else if [ours.picks_up, theirs.picks_up].contains(&Some(false)) {
        Verdict::Skip(Reason::NotPickedUp)
    } else if ours.ports.is_unsteady() || theirs.ports.is_unsteady() {
        Verdict::Skip(Reason::NothingSteady)
    } else if ours.admits_syn == Some(true) || theirs.admits_syn == Some(true) {
        Verdict::Skip(Reason::SynsPass)
    } else {
        Verdict::Run(Part::Both)
    }
}

/// What a host needs that shall send segments and tell its own SYN.
const RAW: &str = "CAP_NET_RAW";

/// Why two sides may not both send segments.
fn not_both_raw(ours: &Facts, theirs: &Facts) -> Option<Reason> {
    if !Means::of(ours.privileges).are_full() {
        Some(Reason::NotPrivileged(RAW))
    } else if !Means::of(theirs.privileges).are_full() {
        Some(Reason::PeerNotPrivileged(RAW))
    } else {
        None
    }
}

fn is_unsteady(ours: &Facts, theirs: &Facts) -> Option<Reason> {
    let unsteady = ours.ports.is_unsteady() || theirs.ports.is_unsteady();
    unsteady.then_some(Reason::NothingSteady)
}

/// What stands against telling a sequence number to where SYNs do not pass.
fn not_for_numbers(ours: &Facts, theirs: &Facts) -> Option<Reason> {
    let rewritten = |facts: &Facts| facts.keeps_sequence == Some(false);
    let passes = |facts: &Facts| facts.admits_syn == Some(true);
    if rewritten(ours) || rewritten(theirs) {
        Some(Reason::SequenceRewritten)
    } else {
        is_unsteady(ours, theirs).or((passes(ours) || passes(theirs)).then_some(Reason::SynsPass))
    }
}

fn syn_replay(ours: &Facts, theirs: &Facts) -> Verdict {
    let all = |of: fn(&Facts) -> Option<bool>| [ours, theirs].map(of) == [Some(false); 2];
    let against = not_both_raw(ours, theirs)
        .or_else(|| is_unsteady(ours, theirs))
        .or(all(|it| it.admits_syn).then_some(Reason::NoSynPasses))
        .or(all(|it| it.answers).then_some(Reason::NobodyAnswers));
    against.map_or(Verdict::AfterRefusals(Part::Both), Verdict::Skip)
}

fn syn_ack_injection(ours: &Facts, theirs: &Facts) -> Verdict {
    let against = not_both_raw(ours, theirs).or_else(|| not_for_numbers(ours, theirs));
    against.map_or(Verdict::Run(Part::Both), Verdict::Skip)
}

fn syn_injection(ours: &Facts, theirs: &Facts) -> Verdict {
    let [us, them] = [ours, theirs].map(|facts| Means::of(facts.privileges));
    let part = match (us.injects && them.knows, them.injects && us.knows) {
        (true, true) => Part::Both,
        (true, false) => Part::Dialer,
        (false, true) => Part::Opener,
        (false, false) if us.knows || us.injects => {
            return Verdict::Skip(Reason::PeerNotPrivileged(RAW));
        }
        (false, false) => return Verdict::Skip(Reason::NotPrivileged(RAW)),
    };
    not_for_numbers(ours, theirs).map_or(Verdict::Run(part), Verdict::Skip)
}

fn connect_close_listen(role: Role, ours: &Facts, theirs: &Facts) -> Verdict {
    if !(ours.classic && theirs.classic) {
        Verdict::Skip(Reason::OptIn)
    } else if not_both_raw(ours, theirs).is_none() {
        Verdict::Skip(Reason::ByHand)
    } else if let Some(reason) = is_unsteady(ours, theirs) {
        Verdict::Skip(reason)
    } else {
        match (ours.listener_reached, theirs.listener_reached, role) {
            (Some(false), Some(false), _) => Verdict::Skip(Reason::NoListenerReached),
            (Some(true), Some(false) | None, _) | (None, Some(false), _) => {
                Verdict::Run(Part::Opener)
            }
            (Some(false) | None, Some(true), _) | (Some(false), None, _) => {
                Verdict::Run(Part::Dialer)
            }
            (Some(true), Some(true), Role::Controlling) | (None, None, Role::Controlling) => {
                Verdict::Run(Part::Dialer)
            }
            (Some(true), Some(true), Role::Controlled) | (None, None, Role::Controlled) => {
                Verdict::Run(Part::Opener)
            }
        }
    }
}

fn spoofed_syn_ack(ours: &Facts, theirs: &Facts) -> Verdict {
    const CAPABILITIES: &str = "CAP_NET_RAW or CAP_NET_ADMIN";
    let may = |facts: &Facts| facts.privileges.and_then(Knowledge::with).is_some();
    let rewritten = |facts: &Facts| facts.keeps_sequence == Some(false);
    // It is one broker: what one side knows of it holds for both.
    if ours.broker_forges.or(theirs.broker_forges) != Some(true) {
        Verdict::Skip(Reason::BrokerCannotSpoof)
    } else if !may(ours) {
        Verdict::Skip(Reason::NotPrivileged(CAPABILITIES))
    } else if !may(theirs) {
        Verdict::Skip(Reason::PeerNotPrivileged(CAPABILITIES))
    } else if rewritten(ours) || rewritten(theirs) {
        Verdict::Skip(Reason::SequenceRewritten)
    } else if ours.ports.is_unsteady() || theirs.ports.is_unsteady() {
        Verdict::Skip(Reason::NothingSteady)
    } else if ours.admits_syn == Some(true) || theirs.admits_syn == Some(true) {
        Verdict::Skip(Reason::SynsPass)
    } else {
        Verdict::Run(Part::Both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENTIAL: Ports = Ports::Sequential { step: 1 };
    const ALL: [Ports; 4] = [Ports::Unknown, Ports::Steady, SEQUENTIAL, Ports::ANYWHERE];

    fn with(ports: Ports) -> Facts {
        Facts { ports, ..Facts::default() }
    }

    fn parts(strategy: Strategy, caller: &Facts, callee: &Facts) -> [Option<Part>; 2] {
        let caller_plan = Plan::of(Role::Controlling, caller, callee);
        let callee_plan = Plan::of(Role::Controlled, callee, caller);
        [caller_plan.part(strategy), callee_plan.part(strategy)]
    }

    #[test]
    fn without_knowledge_the_quickest_way_goes_first() {
        let plan = Plan::of(Role::Controlling, &Facts::default(), &Facts::default());
        assert_eq!(plan.part(Strategy::SimultaneousOpen), Some(Part::Both));
        let opener = plan.verdict(Strategy::ShieldedOpener);
        assert_eq!(opener, Some(Verdict::AfterRefusals(Part::Dialer)));
    }

    #[test]
    fn two_nats_that_answer_strangers_get_one_opener() {
        let answers = Facts { answers: Some(true), ..Facts::default() };
        let strict = Facts { admits_syn: Some(false), ..answers };
        let both = parts(Strategy::ShieldedOpener, &answers, &answers);
        assert_eq!(both, [Some(Part::Dialer), Some(Part::Opener)]);
        let both = parts(Strategy::ShieldedOpener, &answers, &strict);
        assert_eq!(both, [Some(Part::Opener), Some(Part::Dialer)], "the strict one dials");
        assert_eq!(parts(Strategy::SimultaneousOpen, &answers, &answers), [None, None]);
    }

    #[test]
    fn a_hole_that_is_known_to_last_makes_the_opener() {
        let answers = Facts { answers: Some(true), ..Facts::default() };
        let lasts = Facts { hole_outlives_ttl: Some(true), ..answers };
        let ends = Facts { hole_outlives_ttl: Some(false), ..answers };
        let opens = [Some(Part::Opener), Some(Part::Dialer)];
        for (opener, dialer) in [(&lasts, &answers), (&answers, &ends), (&lasts, &ends)] {
            assert_eq!(parts(Strategy::ShieldedOpener, opener, dialer), opens);
            let [one, other] = opens;
            assert_eq!(parts(Strategy::ShieldedOpener, dialer, opener), [other, one]);
        }
    }

    #[test]
    fn who_would_shut_its_nat_does_not_open_it() {
        let answers = Facts { answers: Some(true), ..Facts::default() };
        let ends = Facts { hole_outlives_ttl: Some(false), ..answers };
        let deaf = Facts { hole_outlives_rst: Some(true), ..ends };
        let opens = [Some(Part::Opener), Some(Part::Dialer)];
        assert_eq!(parts(Strategy::ShieldedOpener, &deaf, &ends), opens, "all the way");
        assert_eq!(parts(Strategy::ShieldedOpener, &answers, &ends), opens);
        // The other one lets no SYN in, so that it must dial.
        let strict = Facts { admits_syn: Some(false), ..answers };
        for (one, other) in [(&ends, &ends), (&ends, &strict), (&strict, &ends)] {
            let plan = Plan::of(Role::Controlling, one, other);
            let left_out = Some(Verdict::Skip(Reason::HoleEnds));
            assert_eq!(plan.verdict(Strategy::ShieldedOpener), left_out);
            assert_eq!(plan.part(Strategy::SimultaneousOpen), Some(Part::Both));
        }
    }

    #[test]
    fn what_an_rst_and_an_icmp_error_do_is_told_by_a_report() {
        use InboundSynAfterSyn::{Accepted, Dropped, Rst, Unknown};
        let facts = |after_rst, after_icmp| {
            let tcp = crate::nat::TcpReport {
                inbound_syn_after_rst: after_rst,
                inbound_syn_after_icmp: after_icmp,
                ..crate::nat::TcpReport::default()
            };
            let facts = Facts::of(Some(&NatReport { tcp, ..NatReport::default() }));
            (facts.hole_outlives_rst, facts.hole_outlives_ttl, facts.can_open())
        };
        assert_eq!(facts(None, None), (None, None, None));
        assert_eq!(facts(Some(Unknown), Some(Unknown)), (None, None, None));
        assert_eq!(facts(Some(Rst), Some(Accepted)), (Some(false), Some(true), Some(true)));
        assert_eq!(facts(Some(Dropped), Some(Dropped)), (Some(false), Some(false), Some(false)));
        assert_eq!(facts(Some(Accepted), Some(Rst)), (Some(true), Some(false), Some(true)));
    }

    #[test]
    fn the_two_sides_never_take_the_same_part_where_there_are_two() {
        let facts = |ports| {
            [None, Some(false), Some(true)].into_iter().flat_map(move |answers| {
                [None, Some(false), Some(true)].map(move |admits_syn| Facts {
                    ports,
                    answers,
                    admits_syn,
                    ..Facts::default()
                })
            })
        };
        for (ours, theirs) in ALL.into_iter().flat_map(|one| ALL.map(|other| (one, other))) {
            for (caller, callee) in
                facts(ours).flat_map(|one| facts(theirs).map(move |other| (one, other)))
            {
                for strategy in
                    [Strategy::ShieldedOpener, Strategy::PortPrediction, Strategy::PortCoverage]
                {
                    match parts(strategy, &caller, &callee) {
                        [None, None] => {}
                        [Some(one), Some(other)] => assert_ne!(one, other, "{strategy}"),
                        parts => panic!("{strategy}: {parts:?} of {caller:?} and {callee:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn each_pair_of_ports_has_its_strategy() {
        use Strategy::{PortCoverage, PortPrediction};
        let steady = with(Ports::Steady);
        let [sequential, random] = [SEQUENTIAL, Ports::ANYWHERE].map(with);
        let both = |strategy, one, other| parts(strategy, one, other).map(|part| part.is_some());
        assert_eq!(both(PortPrediction, &sequential, &steady), [true; 2]);
        assert_eq!(both(PortPrediction, &sequential, &sequential), [true; 2]);
        assert_eq!(both(PortPrediction, &sequential, &random), [false; 2]);
        assert_eq!(parts(PortCoverage, &random, &steady), [Some(Part::Draw), Some(Part::Cover)]);
        assert_eq!(both(PortCoverage, &random, &random), [false; 2]);
        assert_eq!(both(PortCoverage, &steady, &steady), [false; 2]);
    }

    #[test]
    fn a_filter_that_lets_other_ports_in_comes_before_coverage() {
        let random = with(Ports::ANYWHERE);
        let open = Facts { lets_ports_in: Some(true), ..with(Ports::Steady) };
        assert_eq!(port_coverage(&open, &random), Verdict::AfterSilence(Part::Cover));
        assert_eq!(port_coverage(&random, &open), Verdict::AfterSilence(Part::Draw));
        let strict = Facts { lets_ports_in: Some(false), ..open };
        assert_eq!(port_coverage(&random, &strict), Verdict::Run(Part::Draw));
        let random = Facts { lets_ports_in: Some(true), ..random };
        assert_eq!(port_coverage(&random, &strict), Verdict::Run(Part::Draw), "it is the other's");
    }

    #[test]
    fn what_is_left_out_says_why() {
        let plan = Plan::of(Role::Controlling, &with(Ports::ANYWHERE), &with(Ports::ANYWHERE));
        let skipped: Vec<String> =
            plan.skipped().map(|(strategy, reason)| format!("{strategy}: {reason}")).collect();
        assert_eq!(
            skipped,
            [
                "port prediction: neither side's ports follow one another",
                "port coverage: both sides' ports are random",
                "SYN replay: needs CAP_NET_RAW here",
                "ghost handshake: needs CAP_NET_ADMIN here",
                "SYN-ACK injection: needs CAP_NET_RAW here",
                "SYN injection: needs CAP_NET_RAW here",
                "spoofed SYN-ACK: the broker cannot spoof",
                "connect, close and listen: not asked for: it fails at every NAT that follows \
                 sequence numbers",
            ]
        );
    }

    #[test]
    fn a_spoofed_answer_needs_a_broker_that_forges_and_two_sides_that_know_their_syns() {
        let held = Some(Privileges { capture: true, ..Privileges::NONE });
        let may = Facts { privileges: held, broker_forges: Some(true), ..with(Ports::Steady) };
        let verdict = |ours: &Facts, theirs: &Facts| spoofed_syn_ack(ours, theirs);
        assert_eq!(verdict(&may, &may), Verdict::Run(Part::Both));
        let broker = Facts { broker_forges: Some(false), ..may };
        assert_eq!(verdict(&broker, &may), Verdict::Skip(Reason::BrokerCannotSpoof));
        let nothing = Facts { privileges: Some(Privileges::NONE), ..may };
        let capabilities = "CAP_NET_RAW or CAP_NET_ADMIN";
        assert_eq!(verdict(&nothing, &may), Verdict::Skip(Reason::NotPrivileged(capabilities)));
        assert_eq!(verdict(&may, &nothing), Verdict::Skip(Reason::PeerNotPrivileged(capabilities)));
        let rewritten = Facts { keeps_sequence: Some(false), ..may };
        assert_eq!(verdict(&may, &rewritten), Verdict::Skip(Reason::SequenceRewritten));
        let random = Facts { ports: Ports::ANYWHERE, ..may };
        assert_eq!(verdict(&random, &may), Verdict::Skip(Reason::NothingSteady));
        let passes = Facts { admits_syn: Some(true), ..may };
        assert_eq!(verdict(&may, &passes), Verdict::Skip(Reason::SynsPass));
    }

    #[test]
    fn the_classic_way_is_taken_only_if_both_ask_for_it() {
        let asks = Facts { classic: true, ..with(Ports::Steady) };
        let both = parts(Strategy::ConnectCloseListen, &asks, &asks);
        assert_eq!(both, [Some(Part::Dialer), Some(Part::Opener)]);
        let one = connect_close_listen(Role::Controlling, &asks, &with(Ports::Steady));
        assert_eq!(one, Verdict::Skip(Reason::OptIn));
        let reached = |reached| Facts { listener_reached: reached, ..asks };
        let classic = |ours: Option<bool>, theirs: Option<bool>| {
            let of = |role| connect_close_listen(role, &reached(ours), &reached(theirs));
            [Role::Controlling, Role::Controlled].map(of)
        };
        assert_eq!(classic(Some(true), None), [Verdict::Run(Part::Opener); 2]);
        assert_eq!(classic(None, Some(true)), [Verdict::Run(Part::Dialer); 2]);
        assert_eq!(classic(Some(false), None), [Verdict::Run(Part::Dialer); 2]);
        let none = Verdict::Skip(Reason::NoListenerReached);
        assert_eq!(classic(Some(false), Some(false)), [none; 2]);
        let raw = Privileges { assume: false, capture: true, inject: true };
        let raw = Facts { privileges: Some(raw), ..asks };
        let better = connect_close_listen(Role::Controlled, &raw, &raw);
        assert_eq!(better, Verdict::Skip(Reason::ByHand));
    }

    #[test]
    fn what_is_made_by_hand_needs_raw_sockets_and_a_reason() {
        use Strategy::{SynAckInjection, SynInjection, SynReplay};
        let raw = Privileges { assume: false, capture: true, inject: true };
        let admin = Privileges { assume: true, ..Privileges::NONE };
        let held = |privileges| Facts { privileges: Some(privileges), ..with(Ports::Steady) };
        let verdicts = |ours: &Facts, theirs: &Facts| {
            let plan = Plan::of(Role::Controlling, ours, theirs);
            [SynReplay, SynAckInjection, SynInjection].map(|it| plan.verdict(it).unwrap())
        };
        let (both, refused) = (Verdict::Run(Part::Both), Verdict::AfterRefusals(Part::Both));
        assert_eq!(verdicts(&held(raw), &held(raw)), [refused, both, both]);
        let peer = Verdict::Skip(Reason::PeerNotPrivileged(RAW));
        let one_sided = [peer, peer, Verdict::Run(Part::Dialer)];
        assert_eq!(verdicts(&held(raw), &held(admin)), one_sided, "one side is enough for a SYN");
        assert_eq!(verdicts(&held(admin), &held(raw))[2], Verdict::Run(Part::Opener));
        let silent = Facts { answers: Some(false), ..held(raw) };
        assert_eq!(verdicts(&silent, &silent)[0], Verdict::Skip(Reason::NobodyAnswers));
        let strict = Facts { admits_syn: Some(false), ..held(raw) };
        let no_syn = Verdict::Skip(Reason::NoSynPasses);
        assert_eq!(verdicts(&strict, &strict), [no_syn, both, both]);
        let passes = Facts { admits_syn: Some(true), ..held(raw) };
        let known = Verdict::Skip(Reason::SynsPass);
        assert_eq!(verdicts(&passes, &strict), [refused, known, known]);
        let rewritten = Facts { keeps_sequence: Some(false), ..held(raw) };
        let numbers = Verdict::Skip(Reason::SequenceRewritten);
        assert_eq!(verdicts(&rewritten, &strict), [refused, numbers, numbers]);
    }

    #[test]
    fn a_ghost_needs_both_privileges_and_a_reason() {
        let held = Some(Privileges { assume: true, ..Privileges::NONE });
        let may = Facts { privileges: held, ..with(Ports::Steady) };
        let verdict = |ours: &Facts, theirs: &Facts| ghost_handshake(ours, theirs);
        assert_eq!(verdict(&may, &may), Verdict::Run(Part::Both));
        let passes = Facts { admits_syn: Some(true), ..may };
        assert_eq!(verdict(&may, &passes), Verdict::Skip(Reason::SynsPass));
        let rewritten = Facts { keeps_sequence: Some(false), ..may };
        assert_eq!(verdict(&may, &rewritten), Verdict::Skip(Reason::SequenceRewritten));
        let refuses = Facts { picks_up: Some(false), ..may };
        assert_eq!(verdict(&may, &refuses), Verdict::Skip(Reason::NotPickedUp));
        assert_eq!(verdict(&refuses, &may), Verdict::Skip(Reason::NotPickedUp));
        let peer = verdict(&may, &with(Ports::Steady));
        assert_eq!(peer, Verdict::Skip(Reason::PeerNotPrivileged("CAP_NET_ADMIN")));
    }
}
