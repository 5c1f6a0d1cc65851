//! Why a message became what it is, as text for people: each rule that was tested, and the one that decided.

use serde_json::Value;

use crate::mail::classify;

/// The lines of an explanation.
pub fn text(explain: &Value) -> String {
    let mut lines = class(explain.pointer("/class"));
    // Of a duplicate and the like nothing else was written down, and nothing is claimed.
    if explain.pointer("/class/rule").is_none_or(|rule| !rule.is_null()) {
        lines.extend(thread(explain.pointer("/thread")));
        lines.extend(trim(explain.pointer("/trim")));
        lines.extend(policy(explain.pointer("/policy")));
    }
    lines.push(format!(
        "decision  {} ({}){}",
        word(explain.pointer("/decision/verdict")),
        word(explain.pointer("/decision/reason")),
        explain
            .pointer("/original")
            .map_or_else(String::new, |original| format!(": the same mail is message {original}"))
    ));
    lines.join("\n")
}

fn class(class: Option<&Value>) -> Vec<String> {
    let Some(class) = class.filter(|class| !class.is_null()) else {
        return vec!["class     unknown: the message could not be read".to_owned()];
    };
    if class.get("value").is_none_or(Value::is_null) {
        return vec!["class     unknown: the message was not read".to_owned()];
    }
    let Some(fitted) = class.get("fitted") else {
        return vec![format!(
            "class     {}; its rules were not written down",
            word(class.get("value"))
        )];
    };
    let decided = word(class.get("rule"));
    let mut lines = vec![format!(
        "class     {} by the rule {decided}: {}",
        word(class.get("value")),
        word(class.get("evidence"))
    )];
    let fitted: Vec<String> = list(Some(fitted)).map(|rule| word(Some(rule))).collect();
    for rule in classify::rule_names() {
        let mark = match (rule == decided, fitted.iter().any(|fitted| fitted == rule)) {
            (true, _) => "fits, and decides",
            (false, true) => "fits as well",
            (false, false) => "does not fit",
        };
        lines.push(format!("            {rule:<24} {mark}"));
    }
    lines
}

fn thread(thread: Option<&Value>) -> Vec<String> {
    let mut lines: Vec<String> = list(thread)
        .map(|candidate| {
            let taken = if candidate.get("accepted") == Some(&Value::Bool(true)) {
                "taken"
            } else {
                "not taken"
            };
            format!(
                "            {} named by {} ({}): {taken}, {}",
                word(candidate.get("issue")),
                word(candidate.get("carrier")),
                word(candidate.get("proof")),
                word(candidate.get("why"))
            )
        })
        .collect();
    let head = if lines.is_empty() {
        "thread    nothing in it names an issue".to_owned()
    } else {
        "thread    issues that it names".to_owned()
    };
    lines.insert(0, head);
    lines
}

fn trim(trim: Option<&Value>) -> Option<String> {
    let trim = trim.filter(|trim| !trim.is_null())?;
    let rules: Vec<String> = list(trim.get("rules")).map(|rule| word(Some(rule))).collect();
    let rules = if rules.is_empty() {
        "nothing was kept apart".to_owned()
    } else {
        rules.join(", ")
    };
    Some(format!(
        "trim      {rules} (confidence {})",
        word(trim.get("confidence"))
    ))
}

fn policy(policy: Option<&Value>) -> Vec<String> {
    let Some(fields) = policy.and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut lines = vec!["policy    what the rules of the project were asked".to_owned()];
    lines.extend(list(fields.get("routes")).enumerate().map(|(index, tested)| {
        let mark = if tested.get("fits") == Some(&Value::Bool(true)) {
            "fits, and decides"
        } else {
            "does not fit"
        };
        format!("            {}. {}  {mark}", index + 1, word(tested.get("route")))
    }));
    let asked = [
        ("route", "route that fits"),
        ("project", "project"),
        ("blocked", "sender is blocked"),
        ("class", "class and what it may do"),
        ("known_sender", "sender is known or accepted"),
        ("thread", "issue that it belongs to"),
        ("participant", "sender takes part in it"),
        ("closed", "it is closed"),
        ("acknowledged", "new issue is acknowledged"),
    ];
    lines.extend(
        asked.iter().filter_map(|(name, question)| {
            Some(format!("            {question:<28} {}", word(Some(fields.get(*name)?))))
        }),
    );
    lines
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// A value as a word for people.
pub fn word(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_names_each_rule() {
        let explain = serde_json::json!({
            "class": {"value": "bulk", "rule": "bulk", "evidence": "Precedence: bulk", "fitted": ["bulk"]},
            "thread": [{"issue": "SUP-1", "carrier": "in-reply-to", "proof": "known-id", "accepted": true, "why": "x"}],
            "trim": {"rules": [], "confidence": 1.0},
            "policy": {"routes": [{"route": "to *+b@x.example: BIL", "fits": false}, {"route": "from *@s.example: hold", "fits": true}],
                       "route": "hold", "class": "bulk hold"},
            "decision": {"verdict": "held", "reason": "class-held"},
        });
        let text = text(&explain);
        for rule in classify::rule_names() {
            assert!(text.contains(rule), "{rule} in {text}");
        }
        assert!(text.contains("bulk                     fits, and decides"), "{text}");
        assert!(
            text.contains("SUP-1 named by in-reply-to (known-id): taken, x"),
            "{text}"
        );
        assert!(text.contains("1. to *+b@x.example: BIL  does not fit"), "{text}");
        assert!(text.contains("2. from *@s.example: hold  fits, and decides"), "{text}");
        assert!(text.ends_with("decision  held (class-held)"), "{text}");
    }

    #[test]
    fn of_what_was_not_written_down_nothing_is_claimed() {
        let duplicate = serde_json::json!({
            "class": {"value": "human", "rule": null, "evidence": null}, "thread": [], "original": 7,
            "trim": {"rules": [], "confidence": null}, "decision": {"verdict": "duplicate", "reason": "same-bytes"},
        });
        let text = text(&duplicate);
        for claim in ["fit", "thread", "trim"] {
            assert!(!text.contains(claim), "{claim} in {text}");
        }
        assert!(
            text.ends_with("decision  duplicate (same-bytes): the same mail is message 7"),
            "{text}"
        );
    }
}
