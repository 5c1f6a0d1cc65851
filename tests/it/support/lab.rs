//! The lab: real servers on loopback, where `LAB_HOME` names one. Tests that need it say so and pass where
//! there is none.

use std::sync::OnceLock;

use serde_json::Value;

/// The facts of this test process's lab; it ends by itself when the process does. `None` where there is none.
pub(crate) fn lab() -> Option<&'static Value> {
    static LAB: OnceLock<Option<Value>> = OnceLock::new();
    LAB.get_or_init(start).as_ref()
}

fn start() -> Option<Value> {
    let file = if let Ok(directory) = std::env::var("LAB_DIR") {
        std::path::PathBuf::from(directory).join("lab.json")
    } else {
        let Ok(home) = std::env::var("LAB_HOME") else {
            println!("skipped: LAB_HOME is not set");
            return None;
        };
        let run = tempfile::tempdir().unwrap().keep();
        let out = std::process::Command::new(format!("{home}/up"))
            .arg(run)
            .args(["--until-exit-of", &std::process::id().to_string()])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().into()
    };
    Some(serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
}
