//! Where the log goes: standard error, which may be full, gone, or a pipe whose reader sleeps. Nobody is made to wait
//! for it.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// What a pipe that says it can be written to takes at once (`PIPE_BUF`).
const BYTES_AT_ONCE: usize = 4096;
/// Patience for a reader that is only slow, for all lines together that come while it does not read.
const PATIENCE: Duration = Duration::from_millis(10);

/// Writes whole lines to a file or pipe. A line that is not taken at once is lost, and counted.
#[derive(Debug)]
pub(super) struct Outlet<F> {
    format: LogFormat,
    state: Mutex<State<F>>,
}

#[derive(Debug)]
struct State<F> {
    file: F,
    /// Lines since one was taken last.
    lost: u64,
}

impl<F: AsFd + Write> Outlet<F> {
    pub(super) fn new(file: F, format: LogFormat) -> Self {
        Self {
            format,
            state: Mutex::new(State { file, lost: 0 }),
        }
    }

    fn write_line(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let State { file, lost } = &mut *state;
        let patience = if *lost == 0 { PATIENCE } else { Duration::ZERO };
        let told = *lost == 0 || put(file, apology(self.format, *lost).as_bytes(), patience);
        if told && put(file, line, patience) {
            *lost = 0;
        } else {
            *lost = if told { 1 } else { *lost + 1 };
        }
    }
}

/// Whether all of it was taken.
fn put(file: &mut (impl AsFd + Write), bytes: &[u8], patience: Duration) -> bool {
    bytes
        .chunks(BYTES_AT_ONCE)
        .all(|chunk| takes_more(file, patience) && file.write_all(chunk).is_ok())
}

fn takes_more(file: &impl AsFd, patience: Duration) -> bool {
    let mut watched = [PollFd::new(file, PollFlags::OUT)];
    let patience = Timespec::try_from(patience).ok();
    poll(&mut watched, patience.as_ref()).is_ok() && watched[0].revents().contains(PollFlags::OUT)
}

/// The line that stands for those that were lost.
fn apology(format: LogFormat, lost: u64) -> String {
    let time = humantime::format_rfc3339_micros(SystemTime::now());
    let message = format!("{lost} lines of the log were lost: nobody took them");
    match format {
        LogFormat::Text => format!("{time}  WARN howdah::log: {message}\n"),
        LogFormat::Json => {
            format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{message}\",\"target\":\"howdah::log\"}}\n"
            )
        }
    }
}

/// A line's way out: each is written in one piece.
pub(super) struct Way<'a, F>(&'a Outlet<F>);

impl<F: AsFd + Write> Write for Way<'_, F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, F: AsFd + Write + 'a> MakeWriter<'a> for Outlet<F> {
    type Writer = Way<'a, F>;

    fn make_writer(&'a self) -> Self::Writer {
        Way(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn lines_that_nobody_takes_are_counted_and_told_when_somebody_reads_again() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let outlet = Outlet::new(writer, LogFormat::Text);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..200 {
            outlet.make_writer().write_all(&line).expect("it never fails");
        }
        let mut taken = vec![0; 32 * 1000];
        reader.read_exact(&mut taken).expect("so much was taken");
        outlet
            .make_writer()
            .write_all(b"the end\n")
            .expect("it never fails");
        drop(outlet);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        let lines: Vec<&str> = rest.lines().collect();
        let [.., apology, last] = lines[..] else {
            panic!("{lines:?}")
        };
        assert_eq!(last, "the end");
        let whole = 32 + lines.len() - 2;
        let expected = format!("{} lines of the log were lost: nobody took them", 200 - whole);
        assert!(apology.ends_with(&expected), "{apology}, expected {expected}");
        assert!(lines[..lines.len() - 2].iter().all(|line| line.len() == 999));
    }

    #[test]
    fn a_reader_that_has_gone_costs_nothing_but_the_lines() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let outlet = Outlet::new(writer, LogFormat::Json);
        for _ in 0..3 {
            outlet.make_writer().write_all(b"{}\n").expect("it never fails");
        }
        assert_eq!(outlet.state.lock().lost, 3);
    }
}
