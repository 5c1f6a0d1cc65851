//! Full-text search in issues and their comments, by SQLite's FTS5.
//! What users type never reaches FTS5 as syntax: each word is quoted.

use sqlx::SqlitePool;

use super::StoreError;
use super::view::issue::{IssueView, issue_view};

/// The issues in which all words stand, in the issue or in its comments; the best first.
///
/// A word that ends in `*` stands for all words that begin so; words between double quotes are a phrase.
///
/// # Errors
/// What the database says.
pub async fn issues(readers: &SqlitePool, typed: &str, limit: u32) -> Result<Vec<IssueView>, StoreError> {
    let terms = terms(typed);
    if terms.is_empty() {
        return Ok(Vec::new());
    }
    // The terms come first (CROSS JOIN): each is looked up in the index once.
    let rows = sqlx::query(
        "WITH hit (term, issue, rank) AS (
            SELECT t.key, i.rowid, i.rank FROM json_each(?1) t CROSS JOIN issue_text i ON i.issue_text MATCH t.value
            UNION ALL
            SELECT t.key, c.issue, x.rank FROM json_each(?1) t
                CROSS JOIN comment_text x ON x.comment_text MATCH t.value
                JOIN comment c ON c.id = x.rowid
         ),
         found (issue, rank) AS (
            SELECT issue, sum(rank) FROM hit GROUP BY issue
            HAVING count(DISTINCT term) = json_array_length(?1)
         )
         SELECT v.* FROM found f JOIN issues v ON v.id = f.issue
         ORDER BY f.rank, v.id DESC LIMIT ?2",
    )
    .bind(serde_json::Value::from(terms).to_string())
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(issue_view).collect()
}

/// What was typed as FTS5 strings (<https://www.sqlite.org/fts5.html#fts5_strings>), one a word or phrase.
fn terms(typed: &str) -> Vec<String> {
    let between_quotes = typed.split('"').enumerate();
    between_quotes
        .flat_map(|(place, text)| match place % 2 {
            0 => text.split_whitespace().collect::<Vec<_>>(),
            _ => vec![text],
        })
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .map(|word| match word.strip_suffix('*') {
            Some(beginning) => format!("\"{beginning}\"*"),
            None => format!("\"{word}\""),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_never_syntax() {
        for (typed, wanted) in [
            ("Toner leer", vec!["\"Toner\"", "\"leer\""]),
            ("a AND b* - NEAR(", vec!["\"a\"", "\"AND\"", "\"b\"*", "\"NEAR(\""]),
            ("\"zwei Wörter\" x", vec!["\"zwei Wörter\"", "\"x\""]),
            ("open \"quote", vec!["\"open\"", "\"quote\""]),
            ("* ^ : \"\"", vec![]),
        ] {
            assert_eq!(terms(typed), wanted, "{typed}");
        }
    }
}
