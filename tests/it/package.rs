//! The Debian package: what is in it, and that it installs, starts, upgrades and goes away on a live systemd.
//! It is made of the program that is tested, so nothing is built for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::binary::project;
use crate::systemd::{GOOD, Machine, text_of};

/// The package in a folder, or why the test is skipped.
fn package(folder: &Path) -> Option<PathBuf> {
    if !Command::new("cargo")
        .args(["deb", "--version"])
        .output()
        .unwrap()
        .status
        .success()
    {
        eprintln!("skipped: there is no cargo-deb");
        return None;
    }
    let output = Command::new(project("systemd/package"))
        .args(["--no-build", "dev", "--fast", "--output"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text_of(&output.stderr));
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "deb"))
}

fn dpkg_deb(option: &str, package: &Path) -> String {
    let output = Command::new("dpkg-deb").arg(option).arg(package).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output.stderr));
    text_of(&output.stdout)
}

/// Where each file is to be, with its mode and owner.
const FILES: [&str; 13] = [
    "-rwxr-xr-x 0/0 ./usr/bin/mailintake",
    "-rw-r--r-- 0/0 ./usr/lib/systemd/system/mailintake.service",
    "-rw-r--r-- 0/0 ./usr/lib/systemd/catalog/mailintake.catalog",
    "-rw-r--r-- 0/0 ./usr/lib/sysusers.d/mailintake.conf",
    "-rw-r--r-- 0/0 ./usr/lib/tmpfiles.d/mailintake.conf",
    "-rw-r--r-- 0/0 ./usr/share/bash-completion/completions/mailintake",
    "-rw-r--r-- 0/0 ./usr/share/zsh/vendor-completions/_mailintake",
    "-rw-r--r-- 0/0 ./usr/share/fish/vendor_completions.d/mailintake.fish",
    "-rw-r--r-- 0/0 ./usr/share/man/man1/mailintake.1.gz",
    "-rw-r--r-- 0/0 ./usr/share/doc/mailintake/README.md",
    "-rw-r--r-- 0/0 ./usr/share/doc/mailintake/copyright",
    "-rw-r--r-- 0/0 ./usr/share/doc/mailintake/examples/config.toml",
    "-rw-r--r-- 0/0 ./usr/share/doc/mailintake/examples/prometheus.rules.yml",
];

#[test]
fn the_package_installs_starts_upgrades_and_leaves_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let Some(package) = package(folder.path()) else { return };
    let contents = dpkg_deb("-c", &package);
    let listed: Vec<String> = contents
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5])
        })
        .collect();
    for file in FILES {
        assert!(listed.iter().any(|line| line == file), "no {file} in\n{contents}");
    }
    assert!(
        !contents.contains("./etc/"),
        "the configuration is the administrator's:\n{contents}"
    );
    let about = dpkg_deb("-I", &package);
    for line in [
        "Package: mailintake",
        "Depends:",
        "libssl3",
        "ca-certificates",
        "postinst",
        "prerm",
        "postrm",
    ] {
        assert!(about.contains(line), "no {line} in\n{about}");
    }

    let Some(machine) = Machine::bare(&[(folder.path(), "/package")]) else {
        return;
    };
    let file = format!("/package/{}", package.file_name().unwrap().to_str().unwrap());
    // What it depends on is the host's.
    let install = ["dpkg", "--force-depends", "-i", &file];
    let said = machine.ok(&install);
    assert!(
        said.contains("mailintake init ADDRESS > /etc/mailintake/config.toml"),
        "{said}"
    );
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(
        machine.ok(&["stat", "-c", "%a %U %G", "/etc/mailintake/secrets"]),
        "750 root mailintake"
    );
    machine.prepare(GOOD);
    machine.ok(&["systemctl", "enable", "--now", "mailintake"]);
    machine.event("daemon.started");
    let before = machine.property("MainPID");

    // Installed again, as an upgrade is: the daemon is started anew with what is there.
    let said = machine.ok(&install);
    assert!(!said.contains("mailintake init"), "{said}");
    assert_eq!(machine.property("ActiveState"), "active");
    assert_ne!(machine.property("MainPID"), before);

    machine.ok(&["dpkg", "--remove", "mailintake"]);
    assert_eq!(machine.property("ActiveState"), "inactive");
    let said = machine.ok(&["dpkg", "--purge", "mailintake"]);
    assert!(said.contains("/var/lib/mailintake stays"), "{said}");
    machine.ok(&["test", "-s", "/var/lib/mailintake/mailintake.db"]);
}
