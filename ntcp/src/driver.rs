//! The only loop: carries out what a machine wants and tells it what happened.
//!
//! A [`Driver`] owns one [`Machine`] that speaks the peer vocabulary of `ntcp_proto::command`, the
//! sockets that machine opened and one future for each thing that may happen to them. It decides
//! nothing about any protocol. It ends when the machine is idle and nobody can command it any more,
//! or when it is dropped; either way every socket that was not handed out closes.

mod sockets;
mod stream;

use std::future::Future;
use std::time::Instant;

use async_io::Timer;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, select_biased};
use ntcp_proto::{Command, Deadline, Input, Machine};

pub(crate) use sockets::Sockets;
use sockets::{Happening, Pending};

use crate::io::privileged::Powers;

/// Something to do to the machine between two inputs.
type Order<M> = Box<dyn FnOnce(&mut M, &mut Sockets, Instant) + Send>;

/// Commands a driver from outside.
#[derive(Debug)]
pub(crate) struct Handle<M>(UnboundedSender<Order<M>>);

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Handle<M> {
    /// Has `order` done soon. `false` when the driver has ended.
    pub(crate) fn order(
        &self,
        order: impl FnOnce(&mut M, &mut Sockets, Instant) + Send + 'static,
    ) -> bool {
        self.0.unbounded_send(Box::new(order)).is_ok()
    }
}

/// Runs one machine on real sockets.
pub(crate) struct Driver<M> {
    machine: M,
    sockets: Sockets,
    pending: FuturesUnordered<Pending>,
    orders: UnboundedReceiver<Order<M>>,
}

impl<M> Driver<M>
where
    M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command>,
{
    /// A driver of `machine`, and the handle that commands it.
    #[cfg_attr(
        not(feature = "raw"),
        expect(clippy::default_constructed_unit_structs, reason = "it is a unit only here")
    )]
    pub(crate) fn new(machine: M) -> (Self, Handle<M>) {
        Self::with(Powers::default(), machine)
    }

    /// A driver of `machine` that has these powers.
    pub(crate) fn with(powers: Powers, machine: M) -> (Self, Handle<M>) {
        let (sender, orders) = unbounded();
        let (sockets, pending) = (Sockets::with(powers), FuturesUnordered::new());
        (Self { machine, sockets, pending, orders }, Handle(sender))
    }

    /// Runs until the machine has finished and every [`Handle`] is gone; `on_event` is told each
    /// event, with the sockets at hand so that it may take some.
    ///
    /// Cancel safe: dropping the future closes what the machine had open.
    pub(crate) async fn run(
        mut self,
        mut on_event: impl FnMut(M::Event, &mut M, &mut Sockets, Instant) + Send,
    ) {
        let mut commanded = true;
        self.drain(&mut on_event);
        loop {
            let deadline = self.machine.poll_timeout();
            if !commanded && deadline.is_none() && self.sockets.is_empty() {
                return;
            }
            let mut happening = if self.pending.is_empty() {
                futures::future::pending().left_future()
            } else {
                self.pending.next().right_future()
            };
            let mut order = if commanded {
                self.orders.next().left_future()
            } else {
                futures::future::pending().right_future()
            };
            // The deadline first: no flood of datagrams may starve it.
            select_biased! {
                () = wait(deadline).fuse() => {
                    tracing::trace!(reason = deadline.map(|it| it.reason), "timeout");
                    self.machine.handle_timeout(Instant::now());
                }
                order = order => match order {
                    Some(order) => order(&mut self.machine, &mut self.sockets, Instant::now()),
                    None => commanded = false,
                },
                happening = happening => if let Some(Some(happening)) = happening {
                    self.tell(happening);
                },
            }
            self.drain(&mut on_event);
        }
    }

    /// Passes on what happened to a socket, unless the socket has gone in the meantime.
    fn tell(&mut self, happening: Happening) {
        let machine = &mut self.machine;
        self.sockets.happened(happening, |input| {
            tracing::trace!(?input, "input");
            machine.handle_input(input, Instant::now());
        });
    }

    fn drain(&mut self, on_event: &mut impl FnMut(M::Event, &mut M, &mut Sockets, Instant)) {
        loop {
            let mut idle = true;
            while let Some(command) = self.machine.poll_command() {
                idle = false;
                tracing::trace!(?command, "command");
                self.sockets.carry_out(command);
            }
            while let Some(event) = self.machine.poll_event() {
                idle = false;
                on_event(event, &mut self.machine, &mut self.sockets, Instant::now());
            }
            while let Some((id, answer)) = self.sockets.next_answer() {
                idle = false;
                tracing::trace!(?id, ?answer, "answer");
                self.machine.handle_input(Input::Answer { id, answer }, Instant::now());
            }
            if idle {
                break;
            }
        }
        self.pending.extend(self.sockets.take_pending());
    }
}

fn wait(deadline: Option<Deadline>) -> impl Future<Output = ()> {
    match deadline {
        Some(deadline) => FutureExt::map(Timer::at(deadline.at), drop).left_future(),
        None => futures::future::pending().right_future(),
    }
}
