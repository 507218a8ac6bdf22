//! The channel: the program's standard streams and its exit status, on a port of a virtio console.
//!
//! The serial console is for messages; bytes here reach the host as they are. What goes over it
//! is [`protocol::frame`]'s. The driver waits by polling, as no interrupt ever arrives.
//!
//! The port is number 1. Port 0 would need no control messages, but QEMU takes it for a terminal and
//! throws away what the host does not read in time (`flush_buf` in `hw/char/virtio-console.c`).

use alloc::boxed::Box;
use core::ops::Range;
use core::ptr::NonNull;

use heapless::Vec;
use protocol::frame::{HEADER_SIZE, Header, Kind, MAX_LENGTH, Sender, VERSION};
use protocol::status::{MAX_ENCODED, Status};
use spin::Once;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};

use crate::arch;
use crate::ranges::pointer;
use crate::virtio::Identity;

/// The port.
const PORT: u32 = 1;

/// Virtio 1.2, section 5.3.2: the queue of control messages to the device, and port 1's queues.
const CONTROL: u16 = 3;
const RECEIVE: u16 = 4;
const TRANSMIT: u16 = 5;

bitflags::bitflags! {
    /// What is wanted of the device: ports, but not a console's size.
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        const MULTIPORT = 1 << 1;
        const VERSION_1 = 1 << 32;
    }
}

/// Control messages, each with value 1 (virtio 1.2, section 5.3.6.2).
#[derive(Clone, Copy, Debug)]
#[repr(u16)]
enum Control {
    DeviceReady = 0,
    PortReady = 3,
    PortOpen = 6,
}

/// Bytes of a transport's registers, configuration space included.
const REGISTERS: usize = 0x200;

/// Bytes that one receive can bring.
const BUFFER: usize = 16 * 1024;

/// Bytes of the largest frame.
const FRAME: usize = HEADER_SIZE + MAX_LENGTH as usize;

static TRANSPORTS: Once<Vec<u64, 32>> = Once::new();

/// Notes where the machine's transports are.
pub(crate) fn init(transports: Vec<u64, 32>) {
    TRANSPORTS.call_once(|| transports);
}

/// Opens the channel if the machine has one. Call it once; a second channel would take the device from the first.
#[must_use]
pub fn open() -> Option<Channel> {
    TRANSPORTS.get()?.iter().copied().find_map(console_at).map(Channel::new)
}

/// The transport at `address`, if a console is behind it.
fn console_at(address: u64) -> Option<MmioTransport<'static>> {
    let registers = pointer::<VirtIOHeader>(address);
    // SAFETY: the machine says that a transport's registers are here, and they are mapped for good.
    let transport = unsafe { MmioTransport::new(NonNull::new(registers)?, REGISTERS) }.ok()?;
    (transport.device_type() == DeviceType::Console).then_some(transport)
}

/// The open channel.
#[expect(missing_debug_implementations, reason = "the queues' types have none")]
pub struct Channel {
    // Dropped first, which resets the device: it then forgets the queues and the buffer.
    transport: MmioTransport<'static>,
    control: VirtQueue<Identity, 2>,
    receive: VirtQueue<Identity, 2>,
    transmit: VirtQueue<Identity, 4>,
    buffer: Box<[u8; BUFFER]>,
    /// Received bytes in `buffer` that nobody has read yet.
    unread: Range<usize>,
    /// The frame on its way out. A program's bytes lie in the window, whose addresses mean nothing to a
    /// device; from here they can go.
    outgoing: Box<[u8; FRAME]>,
}

impl Channel {
    fn new(mut transport: MmioTransport<'static>) -> Self {
        let features = transport.begin_init(Features::all());
        assert!(
            features.contains(Features::all()),
            "the virtio console has {features:?}, not {:?}",
            Features::all()
        );
        let control = VirtQueue::new(&mut transport, CONTROL, false, false);
        let receive = VirtQueue::new(&mut transport, RECEIVE, false, false);
        let transmit = VirtQueue::new(&mut transport, TRANSMIT, false, false);
        let (Ok(control), Ok(receive), Ok(transmit)) = (control, receive, transmit) else {
            panic!("the virtio console refuses its queues; it needs two ports (max_ports=2)");
        };
        transport.finish_init();
        let (buffer, outgoing) = (Box::new([0; BUFFER]), Box::new([0; FRAME]));
        let mut channel = Self { transport, control, receive, transmit, buffer, unread: 0..0, outgoing };
        for message in [Control::DeviceReady, Control::PortReady, Control::PortOpen] {
            channel.tell(message);
        }
        channel.write(Kind::Ready, &[VERSION]);
        channel
    }

    /// Tells the device something about the port. What the device has to say itself, such as which ports there
    /// are, nobody needs to hear: the queue for that stays unused.
    fn tell(&mut self, message: Control) {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&PORT.to_le_bytes());
        bytes[4..6].copy_from_slice(&(message as u16).to_le_bytes());
        bytes[6..].copy_from_slice(&1_u16.to_le_bytes());
        let told = self.control.add_notify_wait_pop(&[&bytes], &mut [], &mut self.transport);
        if let Err(error) = told {
            panic!("the virtio console does not take {message:?}: {error}");
        }
    }

    /// Sends `bytes`, in as many frames as they need: none if there are none.
    ///
    /// Returns when the host has them.
    pub fn write(&mut self, kind: Kind, bytes: &[u8]) {
        for chunk in bytes.chunks(MAX_LENGTH as usize) {
            self.frame(kind, chunk);
        }
    }

    /// Fills the start of `bytes` with standard input, waiting until there is some.
    ///
    /// Returns how many bytes it got, 0 if the input has ended (or `bytes` is empty).
    ///
    /// # Panics
    /// If the host does not keep to the protocol.
    pub fn read_stdin(&mut self, bytes: &mut [u8]) -> usize {
        let most = bytes.len().min(MAX_LENGTH as usize);
        if most == 0 {
            return 0;
        }
        self.frame(Kind::ReadStdin, &length(most).to_le_bytes());
        let mut header = [0; HEADER_SIZE];
        self.fill(&mut header);
        match Header::decode(header, Sender::Host) {
            Ok(Header { kind: Kind::Stdin, length }) if length as usize <= most => {
                let length = length as usize;
                self.fill(&mut bytes[..length]);
                length
            }
            Ok(Header { kind: Kind::StdinEnd, .. }) => 0,
            Ok(header) => panic!("the host answered {header:?} where at most {most} bytes were asked for"),
            Err(error) => panic!("the host sent a {error}"),
        }
    }

    /// Says how the program ended: the last frame.
    pub fn exit(&mut self, status: Status<'_>) {
        let mut buffer = [0; MAX_ENCODED];
        self.frame(Kind::Exit, status.encode(&mut buffer));
    }

    fn frame(&mut self, kind: Kind, content: &[u8]) {
        let frame = &mut self.outgoing[..HEADER_SIZE + content.len()];
        frame[..HEADER_SIZE].copy_from_slice(&Header { kind, length: length(content.len()) }.encode());
        frame[HEADER_SIZE..].copy_from_slice(content);
        let sent = self.transmit.add_notify_wait_pop(&[frame], &mut [], &mut self.transport);
        if let Err(error) = sent {
            panic!("the virtio console does not send: {error}");
        }
    }

    /// Fills `bytes` with what the host sends, waiting for all of it.
    fn fill(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if self.unread.is_empty() {
                self.unread = 0..self.receive();
            }
            let count = self.unread.len().min(bytes.len());
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&self.buffer[self.unread.start..][..count]);
            self.unread.start += count;
            bytes = later;
        }
    }

    /// Waits for the next bytes in `buffer` and returns how many there are.
    fn receive(&mut self) -> usize {
        let buffer = self.buffer.as_mut_slice();
        // SAFETY: `buffer` is not touched until `pop_used` below has returned.
        let token = unsafe { self.receive.add(&[], &mut [&mut *buffer]) };
        let token = token.expect("the queue is empty between calls");
        if self.receive.should_notify() {
            self.transport.notify(RECEIVE);
        }
        while !self.receive.can_pop() {
            arch::cpu::relax();
        }
        // SAFETY: the same buffer as was given to `add`, which returned this token.
        let received = unsafe { self.receive.pop_used(token, &[], &mut [buffer]) };
        match received {
            Ok(count) => (count as usize).min(BUFFER),
            Err(error) => panic!("the virtio console does not receive: {error}"),
        }
    }
}

/// A frame's length, which callers keep to [`MAX_LENGTH`].
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("no frame is longer than 64 KiB")
}
