//! One cause, one alert: findings that share a cause become one, and open alerts grow wider or narrower with it. Pure.
//! It never drops a finding: each is told alone or named in the one that stands for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::alert::{AlertKind, Finding, SEVERAL};
use crate::grant::Problem;
use crate::store::alert::AlertRow;

/// Names in a summary; the rest is counted.
const NAMED: usize = 20;
/// Subject of the alert that no server can be reached.
const NETWORK: &str = "network";

/// An alert that should be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it says.
    pub(super) finding: Finding,
    /// Subjects and logins of alerts about the same cause, wider and narrower ones, whose place it takes.
    kin: BTreeSet<(String, Option<String>)>,
    /// Whether it stands for several.
    is_folded: bool,
}

impl Wanted {
    /// One that stands for itself.
    pub(crate) fn single(finding: Finding) -> Self {
        Self {
            finding,
            kin: BTreeSet::new(),
            is_folded: false,
        }
    }
}

/// What makes the open alerts those that are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'s> {
    /// Raise it, or count it where it is open already.
    Raise(&'s Finding),
    /// It is open, and comes nearer: tell again.
    Renew(&'s AlertRow, &'s Finding),
    /// An open one becomes this; `bool`: tell again, since it got wider.
    Retitle(&'s AlertRow, &'s Finding, bool),
    /// Another one tells of it: end it without a word.
    Absorb(&'s AlertRow),
    /// It is over.
    Resolve(&'s AlertRow),
}

/// What to do with the open alerts of some kinds, so that these are open.
pub(super) fn steps<'s>(open: &'s [AlertRow], wanted: &'s [Wanted]) -> Vec<Step<'s>> {
    let is_wanted = |row: &AlertRow| wanted.iter().any(|one| super::is_same(&one.finding, &row.finding));
    let mut left: Vec<&AlertRow> = open.iter().filter(|row| !is_wanted(row)).collect();
    let mut steps = Vec::new();
    for one in wanted {
        let finding = &one.finding;
        let found = open.iter().find(|row| super::is_same(&row.finding, finding));
        let place = left.iter().position(|row| is_kin(one, row));
        steps.push(match (found, place) {
            (Some(row), _) if is_nearer(row, finding) => Step::Renew(row, finding),
            (Some(_), _) | (None, None) => Step::Raise(finding),
            (None, Some(place)) => Step::Retitle(left.remove(place), finding, one.is_folded),
        });
    }
    let ended = left.into_iter().map(|row| {
        let is_told = wanted.iter().any(|one| one.is_folded && is_kin(one, row));
        if is_told { Step::Absorb(row) } else { Step::Resolve(row) }
    });
    let ended: Vec<_> = ended.collect();
    // What is over goes first, so that nothing is in the way of what takes its place.
    ended.into_iter().chain(steps).collect()
}

fn is_kin(wanted: &Wanted, row: &AlertRow) -> bool {
    row.finding.kind == wanted.finding.kind
        && wanted
            .kin
            .contains(&(row.finding.subject.clone(), row.finding.login.clone()))
}

fn is_nearer(row: &AlertRow, finding: &Finding) -> bool {
    finding.kind.is_told_by_date() && row.finding.problem.code != finding.problem.code
}

/// Failures of grants of one integration with one code are one alert, where what mends it is not a sign-in of each.
pub(super) fn grants(findings: Vec<Finding>) -> Vec<Wanted> {
    let mut causes: BTreeMap<(AlertKind, String, String), Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        let cause = (finding.kind, finding.subject.clone(), finding.problem.code.clone());
        causes.entry(cause).or_default().push(finding);
    }
    let wanted = causes.into_values().flat_map(|alike| match alike.as_slice() {
        [first, _, ..] if is_of_client(first.kind) => vec![several_grants(first, &alike)],
        _ => alike.iter().map(one_grant).collect(),
    });
    without_twins(wanted.collect())
}

/// Two causes may hold of one integration at once, each of several logins: one alert tells of both.
fn without_twins(wanted: Vec<Wanted>) -> Vec<Wanted> {
    let mut seen: Vec<Wanted> = Vec::new();
    for one in wanted {
        match seen
            .iter_mut()
            .find(|known| super::is_same(&known.finding, &one.finding))
        {
            Some(known) => {
                known.finding.problem.summary =
                    format!("{}; {}", known.finding.problem.summary, one.finding.problem.summary);
                known.kin.extend(one.kin);
            }
            None => seen.push(one),
        }
    }
    seen
}

fn is_of_client(kind: AlertKind) -> bool {
    matches!(
        kind,
        AlertKind::AdminActionRequired | AlertKind::ConfigurationRefused | AlertKind::TokenRefreshFailing
    )
}

fn one_grant(finding: &Finding) -> Wanted {
    let several = (finding.subject.clone(), Some(SEVERAL.to_owned()));
    Wanted {
        finding: finding.clone(),
        kin: BTreeSet::from([several]),
        is_folded: false,
    }
}

fn several_grants(first: &Finding, alike: &[Finding]) -> Wanted {
    let logins: Vec<&str> = alike.iter().filter_map(|finding| finding.login.as_deref()).collect();
    let finding = Finding {
        kind: first.kind,
        subject: first.subject.clone(),
        login: Some(SEVERAL.to_owned()),
        problem: Problem {
            code: first.problem.code.clone(),
            summary: format!(
                "{} ({} logins: {})",
                first.problem.summary,
                logins.len(),
                names(&logins)
            ),
            remedy: first.problem.remedy.clone(),
        },
    };
    let kin = alike.iter().map(|one| (one.subject.clone(), one.login.clone()));
    Wanted {
        kin: kin.collect(),
        finding,
        is_folded: true,
    }
}

/// A mailbox that cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outage {
    pub(super) mailbox: String,
    /// Its server, as `host:port`.
    pub(super) host: String,
    pub(super) problem: Problem,
    /// Whether it has lasted long enough to tell of it.
    pub(super) is_lasting: bool,
}

/// The outages of mailboxes, by host, or as one of the network where no host is left; `mailboxes` gives how many are
/// watched at each host.
pub(super) fn outages(outages: &[Outage], mailboxes: &BTreeMap<String, usize>) -> Vec<Wanted> {
    let mut hosts: BTreeMap<&str, Vec<&Outage>> = BTreeMap::new();
    for outage in outages {
        hosts.entry(&outage.host).or_default().push(outage);
    }
    let is_down = |host: &str, count: usize| hosts.get(host).is_some_and(|down| down.len() >= count);
    let is_connecting = outages.iter().all(|outage| is_of_network(&outage.problem.code));
    let are_all_down = mailboxes.len() > 1 && mailboxes.iter().all(|(host, count)| is_down(host, *count));
    if are_all_down && is_connecting && outages.iter().any(|outage| outage.is_lasting) {
        return vec![network(outages, hosts.len())];
    }
    let lasting = hosts
        .into_iter()
        .filter(|(_, down)| down.iter().any(|outage| outage.is_lasting));
    lasting
        .map(|(host, down)| match down.as_slice() {
            [only] => one_mailbox(only),
            _ => one_host(host, &down, mailboxes.get(host).copied().unwrap_or(down.len())),
        })
        .collect()
}

/// Codes of the way to a server, not of what it answers.
fn is_of_network(code: &str) -> bool {
    matches!(
        code,
        "dns" | "connect" | "timeout" | "connection-lost" | "tls" | "greeting"
    )
}

fn unreachable(subject: &str, problem: Problem) -> Finding {
    Finding {
        kind: AlertKind::MailboxUnreachable,
        subject: subject.to_owned(),
        login: None,
        problem,
    }
}

fn kin<'k>(subjects: impl IntoIterator<Item = &'k str>) -> BTreeSet<(String, Option<String>)> {
    subjects.into_iter().map(|subject| (subject.to_owned(), None)).collect()
}

fn one_mailbox(outage: &Outage) -> Wanted {
    Wanted {
        finding: unreachable(&outage.mailbox, outage.problem.clone()),
        kin: kin([outage.host.as_str(), NETWORK]),
        is_folded: false,
    }
}

fn one_host(host: &str, down: &[&Outage], watched: usize) -> Wanted {
    let mailboxes: Vec<&str> = down.iter().map(|outage| outage.mailbox.as_str()).collect();
    // That of one which has lasted is the better known.
    let told = down.iter().find(|outage| outage.is_lasting).or(down.first());
    let problem = told.map_or_else(empty, |outage| outage.problem.clone());
    Wanted {
        finding: unreachable(
            host,
            Problem {
                summary: format!(
                    "{} of {watched} mailboxes cannot be reached ({}): {}",
                    mailboxes.len(),
                    names(&mailboxes),
                    problem.summary
                ),
                ..problem
            },
        ),
        kin: kin(mailboxes.into_iter().chain([NETWORK])),
        is_folded: true,
    }
}

fn network(outages: &[Outage], hosts: usize) -> Wanted {
    let mailboxes: Vec<&str> = outages.iter().map(|outage| outage.mailbox.as_str()).collect();
    let problem = Problem {
        code: "network-unreachable".to_owned(),
        summary: format!(
            "none of {hosts} mail servers can be reached, so no mail comes in ({})",
            names(&mailboxes)
        ),
        remedy: "Check this machine's network, its DNS and its firewall; the intake goes on by itself".to_owned(),
    };
    let subjects = outages
        .iter()
        .flat_map(|outage| [outage.mailbox.as_str(), outage.host.as_str()]);
    Wanted {
        finding: unreachable(NETWORK, problem),
        kin: kin(subjects),
        is_folded: true,
    }
}

/// A mailbox that its server refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) kind: AlertKind,
    pub(super) mailbox: String,
    /// Its server, as `host:port`.
    pub(super) host: String,
    pub(super) problem: Problem,
}

/// So many mailboxes that one server refuses alike are one cause, such as a protocol that was switched off.
pub(super) const ALIKE: usize = 3;

/// The refusals of mailboxes, by host where they are alike. Where one alert tells of them already (`open`, by kind and
/// host), it goes on as long as they are two.
pub(super) fn refusals(refusals: &[Refused], open: &BTreeSet<(AlertKind, String)>) -> Vec<Wanted> {
    let mut causes: BTreeMap<(AlertKind, &str, &str), Vec<&Refused>> = BTreeMap::new();
    for refused in refusals {
        let cause = (refused.kind, refused.host.as_str(), refused.problem.code.as_str());
        causes.entry(cause).or_default().push(refused);
    }
    let wanted = causes.into_iter().flat_map(|((kind, host, _), alike)| {
        let least = if open.contains(&(kind, host.to_owned())) {
            2
        } else {
            ALIKE
        };
        match alike.first() {
            Some(first) if alike.len() >= least => vec![several_mailboxes(first, &alike)],
            Some(_) | None => alike.iter().map(|refused| one_refused(refused)).collect(),
        }
    });
    without_twins(wanted.collect())
}

fn refused(kind: AlertKind, subject: &str, problem: Problem) -> Finding {
    Finding {
        kind,
        ..unreachable(subject, problem)
    }
}

fn one_refused(one: &Refused) -> Wanted {
    Wanted {
        finding: refused(one.kind, &one.mailbox, one.problem.clone()),
        kin: kin([one.host.as_str()]),
        is_folded: false,
    }
}

fn several_mailboxes(first: &Refused, alike: &[&Refused]) -> Wanted {
    let mailboxes: Vec<&str> = alike.iter().map(|one| one.mailbox.as_str()).collect();
    let problem = Problem {
        summary: format!(
            "{} mailboxes are refused alike ({}): {}",
            mailboxes.len(),
            names(&mailboxes),
            first.problem.summary
        ),
        ..first.problem.clone()
    };
    Wanted {
        finding: refused(first.kind, &first.host, problem),
        kin: kin(mailboxes),
        is_folded: true,
    }
}

fn empty() -> Problem {
    Problem {
        code: String::new(),
        summary: String::new(),
        remedy: String::new(),
    }
}

/// Names with commas; the rest is counted where they are many.
fn names(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn problem(code: &str) -> Problem {
        Problem {
            code: code.into(),
            summary: format!("it says {code}"),
            remedy: "Mend it".into(),
        }
    }

    fn of_grant(kind: AlertKind, login: &str, code: &str) -> Finding {
        Finding {
            kind,
            subject: "contoso".into(),
            login: Some(login.into()),
            problem: problem(code),
        }
    }

    fn open(finding: &Finding) -> AlertRow {
        AlertRow {
            id: 1,
            finding: finding.clone(),
            since: Timestamp(0),
            last_seen: Timestamp(0),
            count: 1,
            reminders: 0,
            is_acknowledged: false,
        }
    }

    fn subjects(wanted: &[Wanted]) -> Vec<String> {
        let name = |one: &Wanted| one.finding.login.clone().unwrap_or(one.finding.subject.clone());
        wanted.iter().map(name).collect()
    }

    fn outage(mailbox: &str, host: &str, code: &str, is_lasting: bool) -> Outage {
        Outage {
            mailbox: mailbox.into(),
            host: host.into(),
            problem: problem(code),
            is_lasting,
        }
    }

    fn watched(hosts: &[(&str, usize)]) -> BTreeMap<String, usize> {
        hosts.iter().map(|(host, count)| ((*host).to_owned(), *count)).collect()
    }

    #[test]
    fn one_refusal_of_the_client_is_one_alert_and_sign_ins_stay_apart() {
        let (admin, person) = (AlertKind::AdminActionRequired, AlertKind::ReauthorizationRequired);
        for (findings, expected) in [
            (vec![(admin, "ann", "53003")], vec!["ann"]),
            (vec![(admin, "ann", "53003"), (admin, "bob", "53003")], vec!["*"]),
            (
                vec![(admin, "ann", "53003"), (admin, "bob", "50105")],
                vec!["bob", "ann"],
            ),
            (
                vec![(person, "ann", "50173"), (person, "bob", "50173")],
                vec!["ann", "bob"],
            ),
        ] {
            let found = findings.iter().map(|(kind, login, code)| of_grant(*kind, login, code));
            assert_eq!(subjects(&grants(found.collect())), expected, "{findings:?}");
        }
        let both = ["ann", "bob"].map(|login| of_grant(admin, login, "53003"));
        let folded = grants(both.to_vec());
        assert_eq!(folded[0].finding.problem.summary, "it says 53003 (2 logins: ann, bob)");
    }

    #[test]
    fn an_alert_grows_wider_and_narrower_and_ends_once() {
        let admin = AlertKind::AdminActionRequired;
        let (ann, bob) = (of_grant(admin, "ann", "53003"), of_grant(admin, "bob", "53003"));
        let both = grants(vec![ann.clone(), bob.clone()]);
        let one = grants(vec![ann.clone()]);
        let (row_ann, row_bob, row_both) = (open(&ann), open(&bob), open(&both[0].finding));
        assert_eq!(
            steps(std::slice::from_ref(&row_ann), &both),
            [Step::Retitle(&row_ann, &both[0].finding, true)]
        );
        assert_eq!(
            steps(std::slice::from_ref(&row_both), &both),
            [Step::Raise(&both[0].finding)]
        );
        let two = [row_ann, row_bob];
        assert_eq!(
            steps(&two, &both),
            [Step::Absorb(&two[1]), Step::Retitle(&two[0], &both[0].finding, true)]
        );
        assert_eq!(
            steps(std::slice::from_ref(&row_both), &one),
            [Step::Retitle(&row_both, &ann, false)]
        );
        assert_eq!(steps(std::slice::from_ref(&row_both), &[]), [Step::Resolve(&row_both)]);
    }

    #[test]
    fn mailboxes_of_one_host_are_one_alert_and_all_hosts_are_the_network() {
        let hosts = watched(&[("a:993", 2), ("b:993", 1)]);
        let (a1, a2, b) = (("a1", "a:993"), ("a2", "a:993"), ("b1", "b:993"));
        for (down, code, expected) in [
            (vec![(a1, true)], "connect", vec!["a1"]),
            (vec![(a1, false)], "connect", vec![]),
            (vec![(a1, true), (a2, false)], "connect", vec!["a:993"]),
            (vec![(a1, true), (b, true)], "connect", vec!["a1", "b1"]),
            (vec![(a1, true), (a2, false), (b, false)], "connect", vec!["network"]),
            (vec![(a1, false), (a2, false), (b, false)], "connect", vec![]),
            (
                vec![(a1, true), (a2, true), (b, true)],
                "UNAVAILABLE",
                vec!["a:993", "b1"],
            ),
        ] {
            let list: Vec<Outage> = down
                .iter()
                .map(|((mailbox, host), lasting)| outage(mailbox, host, code, *lasting))
                .collect();
            assert_eq!(subjects(&outages(&list, &hosts)), expected, "{down:?} {code}");
        }
        let one = [
            outage("a1", "a:993", "connect", true),
            outage("a2", "a:993", "connect", true),
        ];
        let alone = outages(&one, &watched(&[("a:993", 3)]));
        assert_eq!(
            alone[0].finding.problem.summary,
            "2 of 3 mailboxes cannot be reached (a1, a2): it says connect"
        );
    }

    #[test]
    fn mailboxes_that_one_server_refuses_alike_are_one_alert() {
        let refused = |mailbox: &str, host: &str, code: &str| Refused {
            kind: AlertKind::CredentialsRefused,
            mailbox: mailbox.into(),
            host: host.into(),
            problem: problem(code),
        };
        let [one, two, three] = ["one", "two", "three"].map(|name| refused(name, "a:993", "LOGIN"));
        let elsewhere = refused("four", "b:993", "LOGIN");
        let otherwise = refused("five", "a:993", "EXPIRED");
        let nothing = BTreeSet::new();
        let already = BTreeSet::from([(AlertKind::CredentialsRefused, "a:993".to_owned())]);
        for (list, open, expected) in [
            (
                vec![&one, &two, &elsewhere, &otherwise],
                &nothing,
                vec!["five", "one", "two", "four"],
            ),
            (
                vec![&one, &two, &three, &elsewhere, &otherwise],
                &nothing,
                vec!["five", "a:993", "four"],
            ),
            (vec![&one, &two], &already, vec!["a:993"]),
            (vec![&one], &already, vec!["one"]),
        ] {
            let list: Vec<Refused> = list.into_iter().cloned().collect();
            assert_eq!(subjects(&refusals(&list, open)), expected, "{list:?}");
        }
        let folded = refusals(&[one.clone(), two.clone(), three], &nothing);
        let summary = &folded[0].finding.problem.summary;
        assert_eq!(
            summary,
            "3 mailboxes are refused alike (one, two, three): it says LOGIN"
        );
        let rows = [
            open(&refusals(&[one], &nothing)[0].finding),
            open(&refusals(&[two], &nothing)[0].finding),
        ];
        assert_eq!(
            steps(&rows, &folded),
            [
                Step::Absorb(&rows[1]),
                Step::Retitle(&rows[0], &folded[0].finding, true)
            ]
        );
    }

    #[test]
    fn the_alert_of_the_network_becomes_that_of_the_host_which_is_left() {
        let hosts = watched(&[("a:993", 2), ("b:993", 1)]);
        let (a1, a2) = (outage("a1", "a:993", "dns", true), outage("a2", "a:993", "dns", true));
        let all = outages(&[a1.clone(), a2.clone(), outage("b1", "b:993", "dns", true)], &hosts);
        let host = outages(&[a1.clone(), a2], &hosts);
        let single = outages(&[a1], &hosts);
        let (row_all, row_host) = (open(&all[0].finding), open(&host[0].finding));
        assert_eq!(
            steps(std::slice::from_ref(&row_all), &host),
            [Step::Retitle(&row_all, &host[0].finding, true)]
        );
        assert_eq!(
            steps(std::slice::from_ref(&row_host), &single),
            [Step::Retitle(&row_host, &single[0].finding, false)]
        );
    }

    #[test]
    fn what_ends_is_told_again_when_a_threshold_is_crossed_and_else_counted() {
        let soon = |code: &str| Finding {
            login: None,
            ..of_grant(AlertKind::SecretExpiring, "", code)
        };
        let row = open(&soon("expires-within-60-days"));
        let same = [Wanted::single(soon("expires-within-60-days"))];
        let nearer = [Wanted::single(soon("expires-within-30-days"))];
        let rows = std::slice::from_ref(&row);
        assert_eq!(steps(rows, &same), [Step::Raise(&same[0].finding)]);
        assert_eq!(steps(rows, &nearer), [Step::Renew(&row, &nearer[0].finding)]);
    }

    #[test]
    fn many_names_are_counted() {
        let many: Vec<String> = (0..23).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(names(&many).ends_with("19 and 3 more"));
    }
}
