//! A script of the project that starts something, obeys lines on its input, and takes all of it down when that ends.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A script that runs. What it has started is gone when this is, or this process.
pub(crate) struct Script {
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Script {
    /// Starts it; it, and the first line that it says.
    pub(crate) fn start(command: &mut Command) -> (Self, String) {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut script = Self { commands, answers, child };
        let line = script.line();
        (script, line)
    }

    /// Has it do something; returns when that is done.
    pub(crate) fn say(&mut self, command: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        assert_eq!(self.line(), format!("{command}: done"));
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.commands.take());
        // It has nothing else to do then.
        let _ended = self.child.wait();
    }
}

/// Does something with a value on a thread that may wait for it.
pub(crate) async fn aside<T: Send + 'static>(mut value: T, work: impl FnOnce(&mut T) + Send + 'static) -> T {
    let work = move || {
        work(&mut value);
        value
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}
