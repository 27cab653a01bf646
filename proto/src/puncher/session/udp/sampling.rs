//! Fresh sockets, and what a server calls them.

use super::*;
use crate::entropy::Entropy;
use crate::puncher::gather::probe::{binding_request, binding_response};
use crate::tcp_traversal::survey::Sample;
use ntcp_stun::TransactionId;

/// When a question is repeated, and the last one given up.
const PAUSES_MS: [u64; 5] = [100, 200, 300, 400, 500];
/// Repetitions after which another server is asked: it takes another port of a NAT that counts.
const SAME_SERVER: usize = 3;

/// A question to a server from one fresh socket.
#[derive(Debug)]
struct Question {
    socket: SocketId,
    local: Option<SocketAddr>,
    id: TransactionId,
    mapped: Option<SocketAddr>,
    failed: bool,
}

/// The questions of one round.
#[derive(Debug)]
pub(super) struct Sampling {
    questions: Vec<Question>,
    asked: usize,
    pub(super) next: Instant,
}

impl Sampling {
    pub(super) fn new(sockets: &[SocketId], entropy: &mut Entropy, now: Instant) -> Self {
        let question = |socket: &SocketId| Question {
            socket: *socket,
            local: None,
            id: entropy.transaction_id(),
            mapped: None,
            failed: false,
        };
        let next = now + Duration::from_millis(PAUSES_MS[0]);
        Self { questions: sockets.iter().map(question).collect(), asked: 1, next }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.questions.iter().all(|it| it.mapped.is_some() || it.failed)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.asked >= PAUSES_MS.len() && self.next <= now
    }

    /// What was told, in the order in which it was asked.
    pub(super) fn samples(&self) -> Vec<(SocketId, Sample)> {
        let sample =
            |it: &Question| Some((it.socket, Sample { local: it.local?, mapped: it.mapped? }));
        self.questions.iter().filter_map(sample).collect()
    }
}

impl Session {
    fn udp_sampling(&mut self) -> Option<&mut Sampling> {
        self.udp.round.as_mut().and_then(rounds::Round::sampling)
    }

    /// A fresh socket is there: the server is asked.
    pub(super) fn on_sample_bound(
        &mut self,
        socket: SocketId,
        bound: Result<SocketAddr, IoFailure>,
        now: Instant,
    ) {
        let Some(sampling) = self.udp_sampling() else { return };
        let Some(question) = sampling.questions.iter_mut().find(|it| it.socket == socket) else {
            return;
        };
        match bound {
            Ok(local) => {
                question.local = Some(local);
                let id = question.id;
                self.ask_server(0, socket, id);
            }
            Err(_) => {
                question.failed = true;
                self.pursue(now);
            }
        }
    }

    fn ask_server(&mut self, turn: usize, socket: SocketId, id: TransactionId) {
        let servers = self.udp_servers();
        let Some(server) = servers.get(turn % servers.len().max(1)).copied() else { return };
        self.send_udp(socket, server, None, binding_request(id));
    }

    /// Asks those servers again that have not answered.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let Some(sampling) = self.udp_sampling() else { return };
        if sampling.next > now || sampling.asked >= PAUSES_MS.len() {
            return;
        }
        sampling.next = now + Duration::from_millis(PAUSES_MS[sampling.asked]);
        sampling.asked += 1;
        let turn = sampling.asked / (SAME_SERVER + 1);
        let silent = sampling.questions.iter().filter(|it| it.mapped.is_none());
        let silent: Vec<_> = silent.filter_map(|it| it.local.map(|_| (it.socket, it.id))).collect();
        silent.into_iter().for_each(|(socket, id)| self.ask_server(turn, socket, id));
    }

    /// A server may have told.
    pub(super) fn on_sample_told(&mut self, socket: SocketId, payload: &[u8], now: Instant) {
        let Some((id, mapped)) = binding_response(payload) else { return };
        let Some(sampling) = self.udp_sampling() else { return };
        let asked = sampling.questions.iter_mut().find(|it| it.socket == socket && it.id == id);
        let Some(question) = asked.filter(|it| it.mapped.is_none()) else { return };
        question.mapped = Some(mapped);
        self.pursue(now);
    }
}
