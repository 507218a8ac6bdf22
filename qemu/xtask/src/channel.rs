//! The host's end of the channel: gives a program in the machine our standard streams.

use std::io::{self, Read, Write};

use protocol::frame::{HEADER_SIZE, Header, Kind, MAX_LENGTH, Sender, VERSION};
use protocol::status::Status;

/// Our standard streams, or what stands for them in a test.
pub(crate) struct Streams<'a> {
    /// Reads some bytes of standard input, 0 at its end. Called only when the program reads.
    pub(crate) stdin: &'a mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    pub(crate) stdout: &'a mut dyn Write,
    pub(crate) stderr: &'a mut dyn Write,
}

/// How the channel came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The program is over.
    Exit(Exit),
    /// The machine went away without a word.
    HangUp,
    /// Nobody reads our standard output any more.
    OutputClosed,
    /// The two sides do not understand each other, or a stream failed.
    Broken(String),
}

/// How the program ended: a [`Status`] of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit status to pass on.
    pub(crate) status: u8,
    /// What to tell the user.
    pub(crate) message: Option<String>,
    /// Whether it is the kernel that failed.
    pub(crate) panicked: bool,
}

/// Serves the program until it ends. Calls `ready` when the kernel has said its first word.
pub(crate) fn serve(
    channel: &mut (impl Read + Write),
    streams: &mut Streams<'_>,
    ready: impl FnOnce(),
) -> End {
    match try_serve(channel, streams, ready) {
        Ok(end) => end,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => End::HangUp,
        Err(error) => End::Broken(format!("channel failed: {error}")),
    }
}

fn try_serve(
    channel: &mut (impl Read + Write),
    streams: &mut Streams<'_>,
    ready: impl FnOnce(),
) -> io::Result<End> {
    let mut ready = Some(ready);
    let mut buffer = vec![0; MAX_LENGTH as usize];
    loop {
        let mut header = [0; HEADER_SIZE];
        channel.read_exact(&mut header)?;
        let header = match Header::decode(header, Sender::Kernel) {
            Ok(header) => header,
            Err(error) => return Ok(End::Broken(format!("the kernel sent a {error}"))),
        };
        let content = &mut buffer[..header.length as usize];
        channel.read_exact(content)?;
        match header.kind {
            Kind::Ready if content == [VERSION] => {
                if let Some(ready) = ready.take() {
                    ready();
                }
            }
            Kind::Ready => {
                let theirs = content[0];
                return Ok(End::Broken(format!(
                    "the kernel speaks version {theirs} of the channel, this program version {VERSION}"
                )));
            }
            Kind::Stdout => {
                if let Err(error) = write(streams.stdout, content) {
                    return Ok(if error.kind() == io::ErrorKind::BrokenPipe {
                        End::OutputClosed
                    } else {
                        End::Broken(format!("cannot write standard output: {error}"))
                    });
                }
            }
            // Messages that nobody can see are no reason to stop.
            Kind::Stderr => drop(write(streams.stderr, content)),
            Kind::ReadStdin => {
                let wanted = content.first_chunk().map_or(0, |max| u32::from_le_bytes(*max));
                if wanted == 0 {
                    return Ok(End::Broken("the kernel asked for 0 bytes of input".into()));
                }
                answer_read(channel, streams, &mut buffer[..wanted.min(MAX_LENGTH) as usize])?;
            }
            Kind::Exit => return Ok(exit(content)),
            other => return Ok(End::Broken(format!("the kernel sent a frame of kind {other:?}"))),
        }
    }
}

fn answer_read(channel: &mut impl Write, streams: &mut Streams<'_>, buffer: &mut [u8]) -> io::Result<()> {
    // A standard input that cannot be read (closed, say) is one without content.
    let length = (streams.stdin)(buffer).unwrap_or(0);
    let kind = if length == 0 { Kind::StdinEnd } else { Kind::Stdin };
    let header = Header { kind, length: u32::try_from(length).expect("a frame's content fits its length") };
    // One write: the machine is interrupted once.
    let frame = [header.encode().as_slice(), &buffer[..length]].concat();
    channel.write_all(&frame)
}

fn exit(content: &[u8]) -> End {
    match Status::decode(content) {
        Ok(status) => End::Exit(Exit {
            status: status.process_exit(),
            message: status.message().map(str::to_owned),
            panicked: status == Status::Panicked,
        }),
        Err(error) => End::Broken(format!("the kernel sent an {error}")),
    }
}

fn write(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::{End, Exit, Streams, serve};
    use protocol::frame::{Header, Kind, VERSION};
    use protocol::status::{MAX_ENCODED, Status};
    use std::io::{self, Read, Write};

    /// A channel on which the kernel has said everything already.
    struct Canned {
        from_kernel: io::Cursor<Vec<u8>>,
        to_kernel: Vec<u8>,
    }

    impl Read for Canned {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.from_kernel.read(buffer)
        }
    }

    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.to_kernel.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct BrokenPipe;

    impl Write for BrokenPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(kind: Kind, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        [Header { kind, length }.encode().as_slice(), content].concat()
    }

    fn exit_frame(status: Status<'_>) -> Vec<u8> {
        let mut buffer = [0; MAX_ENCODED];
        frame(Kind::Exit, status.encode(&mut buffer))
    }

    /// What the program printed, what was sent to it, and how it ended.
    fn run(frames: &[Vec<u8>], stdin: &[u8]) -> (Vec<u8>, Vec<u8>, End) {
        let mut channel = Canned { from_kernel: io::Cursor::new(frames.concat()), to_kernel: Vec::new() };
        let (mut stdin, mut stdout, mut stderr) = (stdin, Vec::new(), Vec::new());
        let mut streams =
            Streams { stdin: &mut |buffer| stdin.read(buffer), stdout: &mut stdout, stderr: &mut stderr };
        let end = serve(&mut channel, &mut streams, || {});
        (stdout, channel.to_kernel, end)
    }

    #[test]
    fn a_program_reads_writes_and_ends() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let frames = [
            frame(Kind::Ready, &[VERSION]),
            frame(Kind::Stdout, &every_byte),
            frame(Kind::ReadStdin, &200_u32.to_le_bytes()),
            frame(Kind::ReadStdin, &200_u32.to_le_bytes()),
            frame(Kind::ReadStdin, &200_u32.to_le_bytes()),
            exit_frame(Status::Exited(7)),
        ];
        let (stdout, answers, end) = run(&frames, &every_byte);
        assert_eq!(stdout, every_byte);
        let expected = [
            frame(Kind::Stdin, &every_byte[..200]),
            frame(Kind::Stdin, &every_byte[200..]),
            frame(Kind::StdinEnd, &[]),
        ];
        assert_eq!(answers, expected.concat());
        let exit = Exit { status: 7, message: None, panicked: false };
        assert_eq!(end, End::Exit(exit));
    }

    #[test]
    fn a_trap_has_its_status_and_message() {
        let (_, _, end) = run(&[exit_frame(Status::Trapped { message: "oob" })], b"");
        let exit = Exit { status: 134, message: Some("oob".into()), panicked: false };
        assert_eq!(end, End::Exit(exit));
    }

    #[test]
    fn a_machine_that_goes_away_is_noticed() {
        assert_eq!(run(&[], b"").2, End::HangUp);
        let half = frame(Kind::Stdout, b"hello")[..7].to_vec();
        assert_eq!(run(&[half], b"").2, End::HangUp);
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            vec![0xff; 5],
            frame(Kind::Stdin, b"x"),
            frame(Kind::ReadStdin, &[0; 4]),
            frame(Kind::Ready, &[VERSION + 1]),
            frame(Kind::Exit, &[9]),
        ] {
            let end = run(std::slice::from_ref(&nonsense), b"").2;
            assert!(matches!(end, End::Broken(_)), "{nonsense:?}: {end:?}");
        }
    }

    #[test]
    fn a_closed_output_ends_the_service() {
        let mut channel =
            Canned { from_kernel: io::Cursor::new(frame(Kind::Stdout, b"hello")), to_kernel: Vec::new() };
        let mut streams = Streams { stdin: &mut |_| Ok(0), stdout: &mut BrokenPipe, stderr: &mut io::sink() };
        assert_eq!(serve(&mut channel, &mut streams, || {}), End::OutputClosed);
    }
}
