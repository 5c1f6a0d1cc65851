//! How long, how much CPU and how much memory a process takes (proc(5)).

use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What a process took so far.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// CPU seconds, user and system.
    pub cpu: f64,
    /// Peak memory in MB.
    pub peak_mb: f64,
    /// Present memory in MB.
    pub now_mb: f64,
}

/// Looks at a process; what is gone took what it took at the last look.
pub fn look(pid: u32, before: Usage) -> Usage {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|word| word.parse::<f64>().ok());
    let cpu = ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / 100.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let memory = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
            .map(|kb| kb / 1024.0)
    };
    Usage {
        cpu: cpu.unwrap_or(before.cpu),
        peak_mb: memory("VmHWM:").unwrap_or(before.peak_mb),
        now_mb: memory("VmRSS:").unwrap_or(before.now_mb),
    }
}

/// Runs a command to its end; gives the seconds it took and what it used.
pub fn run(command: &mut Command) -> (f64, Usage) {
    let begun = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut usage = Usage::default();
    loop {
        // Until it is waited for, a process that has ended still tells its CPU time.
        usage = look(child.id(), usage);
        if is_over(child.id()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = begun.elapsed().as_secs_f64();
    usage = look(child.id(), usage);
    let status = child.wait().expect("its end");
    assert!(status.success(), "{command:?}: {status}");
    (seconds, usage)
}

fn is_over(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

/// Waits for a condition.
pub fn wait(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_mins(10), "it took too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a daemon as a service manager would.
pub fn stop(daemon: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    daemon.wait().expect("its end");
}
