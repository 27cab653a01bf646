//! Fresh samples of our NAT's ports, taken by the session that depends on them.

use super::*;
use crate::puncher::gather::probe::{binding_request, binding_response};
use crate::tcp_traversal::survey::{self, Ports, SAMPLES, Sample};
use crate::{Hops, IoFailure};

/// How long answers are waited for: the kernel repeats a lost SYN after a second.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Surveys that are repeated for want of answers.
const MOST_AGAIN: u32 = 2;

/// Connections that are being sampled.
#[derive(Debug)]
pub(super) struct Survey {
    /// In the order in which their SYNs left.
    questions: Vec<Question>,
    /// When it began, if that was told.
    begun: Option<Instant>,
    /// `None` until the first answer or timeout tells the time.
    until: Option<Instant>,
    /// Connects of the session when the last SYN had left.
    pub(super) after: u32,
}

#[derive(Debug)]
struct Question {
    socket: SocketId,
    local: Option<SocketAddr>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asking,
    Told(SocketAddr),
    Failed,
}

impl Survey {
    fn question(&mut self, socket: SocketId) -> Option<&mut Question> {
        self.questions.iter_mut().find(|question| question.socket == socket)
    }

    fn is_complete(&self) -> bool {
        self.questions.iter().all(|question| question.state != State::Asking)
    }

    /// Whether it tells what the ports are like: a single sample, or one of many pairs, tells only where
    /// a port is met.
    fn tells(&self) -> bool {
        self.questions.len() == SAMPLES
    }

    fn samples(&self) -> Vec<Sample> {
        let sample = |question: &Question| match (question.local, question.state) {
            (Some(local), State::Told(mapped)) => Some(Sample { local, mapped }),
            (_, State::Asking | State::Failed | State::Told(_)) => None,
        };
        self.questions.iter().filter_map(sample).collect()
    }

    /// Its sockets that are still there.
    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        let open = self.questions.iter().filter(|question| question.state != State::Failed);
        open.map(|question| question.socket)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.until
    }
}

impl Session {
    /// Asks a server from so many fresh ports. An earlier survey's connections end.
    pub(super) fn begin_survey(&mut self, count: usize, now: Option<Instant>) {
        let earlier = self.engine.survey.take();
        let earlier: Vec<_> = earlier.iter().flat_map(Survey::sockets).collect();
        earlier.into_iter().for_each(|socket| self.close(socket));
        let Some(local) = self.survey_local() else { return };
        let family = Family::of(local.ip());
        let of_family = |server: &&SocketAddr| Family::of(server.ip()) == family;
        let servers: Vec<_> = self.resources.stun.iter().filter(of_family).copied().collect();
        let Some(server) = servers.first().copied() else { return };
        if self.engine.surveys_again == 0 && self.engine.last.is_none() {
            self.engine.before = self.engine.connects;
        }
        let mut questions = Vec::new();
        for _ in 0..count {
            let socket = self.connect(SocketAddr::new(local.ip(), 0), server, Hops::USUAL);
            questions.push(Question { socket, local: None, state: State::Asking });
        }
        let until = now.map(|now| now + PATIENCE);
        let after = self.engine.connects;
        self.engine.survey = Some(Survey { questions, begun: now, until, after });
    }

    /// Whether a survey that tells what our ports are like is under way, or has done what it could.
    pub(super) fn is_learning(&self) -> bool {
        self.engine.survey.as_ref().is_some_and(Survey::tells)
    }

    /// Where the peer's announced TCP end can be reached from.
    fn survey_local(&self) -> Option<SocketAddr> {
        self.tcp_local(Family::of(self.announced_end()?.ip()))
    }

    /// Whether this was one of the survey's connects.
    pub(super) fn on_sample_connected(
        &mut self,
        socket: SocketId,
        connected: Result<Ends, IoFailure>,
        now: Instant,
    ) -> bool {
        let Some(survey) = &mut self.engine.survey else { return false };
        let Some(question) = survey.question(socket) else { return false };
        match connected {
            Ok(ends) => {
                question.local = Some(ends.local);
                if let Some(begun) = survey.begun {
                    self.engine.took(now.saturating_duration_since(begun));
                }
                let id = self.entropy.transaction_id();
                self.send_tcp(socket, binding_request(id));
            }
            Err(_) => question.state = State::Failed,
        }
        self.conclude_survey(now);
        true
    }

    /// Whether this was an answer to the survey.
    pub(super) fn on_sample(&mut self, socket: SocketId, payload: &[u8], now: Instant) -> bool {
        let Some(survey) = &mut self.engine.survey else { return false };
        let Some(question) = survey.question(socket) else { return false };
        if let (Some((_, mapped)), State::Asking) = (binding_response(payload), question.state) {
            question.state = State::Told(mapped);
            self.conclude_survey(now);
        }
        true
    }

    /// Whether this was one of the survey's connections.
    pub(super) fn on_sample_lost(&mut self, socket: SocketId, now: Instant) -> bool {
        let Some(survey) = &mut self.engine.survey else { return false };
        let Some(question) = survey.question(socket) else { return false };
        let asking = question.state == State::Asking;
        question.state = State::Failed;
        if asking {
            self.conclude_survey(now);
        }
        true
    }

    /// Whether a single sample shows that our ports do not follow the rule that was thought to be theirs.
    fn is_contradicted(&self, samples: &[Sample]) -> bool {
        match (self.engine.ports, self.engine.last, samples) {
            (Ports::Sequential { step }, Some((last, _)), [sample]) => {
                !survey::follows(last, sample.mapped.port(), step)
            }
            _ => false,
        }
    }

    /// Judges what has been told, if all was or the time is up.
    pub(super) fn conclude_survey(&mut self, now: Instant) {
        let Some(survey) = self.engine.survey.as_mut().filter(|_| !self.engine.judged) else {
            // What is answered after the time was up changes nothing.
            return;
        };
        let until = *survey.until.get_or_insert(now + PATIENCE);
        if !survey.is_complete() && until > now {
            return;
        }
        let (samples, after) = (survey.samples(), survey.after);
        let tells = survey.tells() && !self.engine.ports.is_steady();
        let ports = survey::pattern(&self.resources.told, &samples);
        if tells && ports == Ports::Unknown && self.engine.surveys_again < MOST_AGAIN {
            self.engine.surveys_again += 1;
            return self.begin_survey(SAMPLES, Some(now));
        }
        if self.is_contradicted(&samples) {
            (self.engine.ports, self.engine.rounds) = (Ports::Unknown, None);
            return self.begin_survey(SAMPLES, Some(now));
        }
        if let Some(survey) = &mut self.engine.survey {
            survey.until = None;
        }
        self.engine.judged = true;
        match (ports, self.engine.ports) {
            _ if !tells => {}
            // What has followed a rule once does so; a sample more or less may be another's.
            (Ports::Random { .. } | Ports::Unknown, Ports::Sequential { .. }) => {}
            (Ports::Unknown, _) if samples.is_empty() => {}
            (Ports::Unknown, _) => self.engine.ports = Ports::ANYWHERE,
            (known, _) => self.engine.ports = known,
        }
        let newest = match self.engine.ports {
            Ports::Sequential { step } => survey::farthest(&samples, step),
            Ports::Unknown | Ports::Steady | Ports::Random { .. } => samples.last(),
        };
        self.engine.last = newest.map(|sample| (sample.mapped.port(), after));
        self.engine.spare = newest.copied();
        self.engine.crowd = samples;
        self.pursue(now);
    }
}
