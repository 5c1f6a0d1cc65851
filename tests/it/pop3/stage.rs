//! The built program before the scripted POP3 server.

use std::time::Duration;

use crate::support::binary::Daemon;
use crate::support::certificate::LOOPBACK;
use crate::support::pop3_server::{Options, Pop3Server, Security};
use crate::support::scene::{PASSWORD, Scene, address};

/// A program and a server that it trusts.
pub(super) struct Stage {
    pub(super) scene: Scene,
    pub(super) server: Pop3Server,
}

impl Stage {
    /// With these users (`NAME@example.org`) and nothing configured.
    pub(super) fn with(users: &[&str], shape: impl FnOnce(Options) -> Options) -> Self {
        let scene = Scene::with(&[], |options| options);
        let security = Security::Implicit(scene.authority.issue(&LOOPBACK));
        let options = users.iter().fold(Options::new(security), |options, user| {
            options.user(&address(user), PASSWORD)
        });
        let server = Pop3Server::start(shape(options));
        Self { scene, server }
    }

    /// The user `support`, looked at every second, with these further lines of `[[mailbox]]`.
    pub(super) fn support(more: &str) -> Self {
        Self::shaped(more, |options| options)
    }

    /// The same at a server of another shape.
    pub(super) fn shaped(more: &str, shape: impl FnOnce(Options) -> Options) -> Self {
        let stage = Self::with(&["support"], shape);
        stage.configure(&["support"], more);
        stage
    }

    /// Watches these users, with these further lines of `[[mailbox]]` each.
    pub(super) fn configure(&self, users: &[&str], more: &str) {
        let sections: Vec<String> = users.iter().map(|user| self.section(user, more)).collect();
        let mut sections: Vec<&str> = sections.iter().map(String::as_str).collect();
        sections.push("[[project]]\nkey = \"SUP\"\n");
        self.scene.configure(&sections);
    }

    pub(super) fn section(&self, user: &str, more: &str) -> String {
        let interval = if more.contains("poll_interval") {
            ""
        } else {
            "poll_interval = \"1s\"\n"
        };
        let more = format!("protocol = \"pop3\"\n{interval}{more}");
        self.scene.mailbox_at(self.server.port(), user, &more)
    }

    pub(super) fn deliver(&self, raw: &str) -> String {
        self.server.deliver(&address("support"), raw)
    }

    /// What is on the server, as UIDLs.
    pub(super) fn left(&self) -> Vec<String> {
        let mails = self.server.messages(&address("support"));
        mails.into_iter().map(|mail| mail.uidl).collect()
    }

    /// Waits for so many more looks at the mailbox.
    pub(super) fn wait_looks(&self, count: usize) {
        let before = self.server.count("LIST");
        assert!(
            self.server.wait_until(|server| server.count("LIST") >= before + count),
            "{:?}",
            self.server.log()
        );
    }

    /// Waits until a query answers so.
    pub(super) fn wait_query(&self, daemon: &mut Daemon, sql: &str, answer: &str) {
        daemon.wait_for(&format!("{sql} = {answer}"), Duration::from_secs(30), |_| {
            (self.scene.look(sql) == [[answer]]).then_some(())
        });
    }
}
