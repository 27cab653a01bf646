//! Machines on simulated hosts: started, commanded, watched, killed.

use std::time::{Duration, Instant};

use ntcp_proto::{Command, Input, Machine, SocketId};

use super::{HostId, Node, ProcessId, ProcessSlot, StreamHandle, World};
use crate::runner::{Process, Repetition, Runner};

impl World {
    /// Puts a machine on a host.
    pub fn run<M>(&mut self, host: HostId, machine: M) -> ProcessId<M>
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        let index = self.add_process(host, Box::new(Runner::new(machine)));
        let id = ProcessId { index, kind: std::marker::PhantomData };
        self.command(id, |_, _| {});
        id
    }

    pub(super) fn add_process(&mut self, host: HostId, process: Box<dyn Process>) -> usize {
        let process = Some(process);
        self.processes.push(ProcessSlot { host: host.0, process, alarm: None, killed: false });
        self.processes.len() - 1
    }

    /// Commands a machine, as its user would.
    pub fn command<M, R>(&mut self, id: ProcessId<M>, order: impl FnOnce(&mut M, Instant) -> R) -> R
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        let now = self.now;
        let mut result = None;
        self.with_process(id.index, |process, system| {
            let runner = expect_runner::<M>(process);
            result = Some(order(&mut runner.machine, now));
            runner.drain(system);
        });
        result.expect("a process is at home between two events")
    }

    /// From now on tells a machine everything twice, which the contract allows a shell to do.
    pub fn tell_twice<M>(&mut self, id: ProcessId<M>)
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        self.runner(id).repetition = Repetition::Twice;
    }

    /// Looks at a machine.
    pub fn machine<M>(&mut self, id: ProcessId<M>) -> &M
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        &self.runner(id).machine
    }

    /// What a machine has told so far, and when.
    pub fn events<M>(&mut self, id: ProcessId<M>) -> &[(Duration, M::Event)]
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        &self.runner(id).events
    }

    /// Checks that a machine has finished: no deadline, nothing unanswered.
    ///
    /// # Panics
    ///
    /// If it has not.
    pub fn assert_finished<M>(&mut self, id: ProcessId<M>)
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        self.runner(id).assert_finished();
    }

    /// Sockets that a machine has open, its listeners among them.
    pub fn open_sockets<M>(&mut self, id: ProcessId<M>) -> usize
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        self.runner(id).open_sockets()
    }

    /// Kills a machine's program: its sockets close, and nothing is ever heard of it again. What it
    /// has told can still be [read](World::events).
    pub fn kill<M>(&mut self, id: ProcessId<M>) {
        self.kill_process(id.index);
    }

    pub(super) fn kill_process(&mut self, index: usize) {
        self.with_process(index, |process, system| process.close_all(system));
        let slot = &mut self.processes[index];
        slot.alarm = None;
        slot.killed = true;
    }

    fn runner<M>(&mut self, id: ProcessId<M>) -> &mut Runner<M>
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        let process = self.processes[id.index].process.as_mut();
        expect_runner(process.expect("a process is at home between two events").as_mut())
    }

    /// Takes a stream out of a machine's hands, as an application does that was given it.
    pub fn take_stream<M>(&mut self, id: ProcessId<M>, socket: SocketId) -> Option<StreamHandle>
    where
        M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
    {
        let host = self.processes[id.index].host;
        let (socket, buffered) = self.runner(id).take_stream(socket)?;
        let handle = StreamHandle { host, socket };
        self.loose.insert(handle, buffered);
        Some(handle)
    }

    /// Sends on a stream outside of any machine's hands.
    pub fn send(&mut self, stream: StreamHandle, bytes: &[u8]) {
        let now = self.now;
        if let Node::Host(host) = &mut self.slots[stream.host].node {
            // A stream that has ended takes no bytes; whoever reads the other end finds out.
            let _ = host.send_tcp(stream.socket, bytes, now).is_ok();
        }
        self.settle(stream.host);
    }

    /// What has arrived on a stream outside of any machine's hands, since the last call.
    pub fn receive(&mut self, stream: StreamHandle) -> Vec<u8> {
        self.loose.get_mut(&stream).map(std::mem::take).unwrap_or_default()
    }
}

fn expect_runner<M>(process: &mut dyn Process) -> &mut Runner<M>
where
    M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
{
    process.as_any().downcast_mut().expect("a process id names the type of its machine")
}
