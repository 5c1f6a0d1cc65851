//! Header blocks and separator lines that clients put above the message they answer, in their languages.
//! One header word makes no block: three do, or two below a separator.

use std::sync::LazyLock;

use regex::Regex;

use super::pattern;

/// Most lines that a block spans, wrapped values and empty lines included.
const BLOCK_LINES: usize = 14;

/// What a header word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    From,
    Date,
    To,
    Cc,
    Subject,
}

/// The words of the clients, by meaning.
static WORDS: LazyLock<[(Word, Regex); 5]> = LazyLock::new(|| {
    let field = |words: &str| {
        pattern(&format!(
            r"(?i)^[\s>|]*[*_]{{0,2}}(?:{words})[*_]{{0,2}}\s*[:：][*_]{{0,2}}(?:\s|$|\S)"
        ))
    };
    [
        (
            Word::From,
            field(
                "from|von|de|da|van|från|fra|frå|od|от|от кого|lähettäjä|kimden|gönderen|feladó|nadawca|expéditeur|remitente|mittente|remetente|afzender|avsändare|avsender|від|发件人|寄件者|寄件人|差出人|送信者|보낸\\s?사람|από|מאת|من|từ|reply[- ]to|antwort an",
            ),
        ),
        (
            Word::Date,
            field(
                "date|message du|sent|sent at|sent on|gesendet|gesendet am|datum|envoyé|envoyé le|date d'envoi|enviado|enviado el|enviada em|enviado em|fecha|data|data d'invio|inviato|inviata|verzonden|verzonden op|skickat|sendt|dato|dátum|elküldve|wysłano|data wysłania|odesláno|odeslané|дата|отправлено|lähetetty|päivä|tarih|gönderildi|发送时间|发送日期|日期|寄件日期|時間|送信日時|日時|날짜|보낸\\s?날짜|надіслано|ngày|ημερομηνία|תאריך|trimis",
            ),
        ),
        (
            Word::To,
            field(
                "to|an|à|a|para|aan|till|til|komu|do|кому|vastaanottaja|kime|alıcı|címzett|destinataire|destinatario|destinatari|destinatário|收件人|收件者|宛先|받는\\s?사람|προς|אל|đến|până|către",
            ),
        ),
        (
            Word::Cc,
            field(
                "cc|kopie|copie à|copia|kopia|kopi|kopio|bilgi|копия|抄送|副本|참조|másolat|bcc|організація|organization",
            ),
        ),
        (
            Word::Subject,
            field(
                "subject|betreff|objet|sujet|asunto|oggetto|assunto|onderwerp|ämne|emne|temat|předmět|predmet|тема|aihe|konu|tárgy|主题|主旨|件名|题目|제목|θέμα|נושא|chủ đề|subiect",
            ),
        ),
    ]
});

/// Lines that stand above the original message and nowhere else.
static SEPARATOR: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^[\s>|]*[-_=*‐–—]{2,}\s*(?:original message|original appointment|reply message|original mail|ursprüngliche (?:nachricht|mail)|originalnachricht|ursprungliche nachricht|message d['’]origine|message d['’]origine|message original|mensaje original|mensagem original|messaggio originale|oorspronkelijk(?:e)? bericht|oprindelig (?:meddelelse|besked)|opprinnelig melding|ursprungligt meddelande|originalmeddelande|alkuperäinen viesti|wiadomość oryginalna|oryginalna wiadomość|původní (?:zpráva|email)|исходное сообщение|оригинальное сообщение|原始邮件|原始郵件|元のメッセージ|original-nachricht|αρχικό μήνυμα|eredeti üzenet|orijinal mesaj|reply above this line|original email|\p{L}[^\x00-\x1f!-&(-@\x5b-`\x7b-\x7f]{0,20} ?(?:message|nachricht|bericht|meddelande|meddelelse|melding|besked|сообщение|wiadomość|messaggio|mensaje|mensagem)|forwarded by .{3,60} on .{6,30})\s*[-_=*‐–—]{2,}",
    )
});
/// Lines above a forwarded message.
static FORWARD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^[\s>|]*(?:[-_=*]{2,}\s*)?(?:begin forwarded message|forwarded message|weitergeleitete nachricht|anfang der weitergeleiteten (?:nachricht|e-mail)|message transféré|début du message (?:transféré|réexpédié)|mensaje reenviado|inicio del mensaje reenviado|messaggio inoltrato|inizio messaggio inoltrato|mensagem (?:encaminhada|reencaminhada)|doorgestuurd bericht|begin doorgestuurd bericht|vidarebefordrat meddelande|vidarebefordrat brev|videresendt (?:melding|meddelelse)|välitetty viesti|przekazana wiadomość|treść przekazanej wiadomości|пересылаемое сообщение|пересланное сообщение|přeposlaná zpráva|转发的?邮件|轉寄的郵件|転送メッセージ)\s*:?\s*(?:[-_=*]{2,}.*)?$",
    )
});
/// A rule across the page.
static RULE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\s>|]*[-_=*‐–—]{3,}\s*$"));

/// The meaning of a line that begins with a header word.
fn word(line: &str) -> Option<Word> {
    // `To: x` is short; a paragraph that begins with a word and a colon is long.
    if line.len() > 400 || !line.contains([':', '：']) {
        return None;
    }
    WORDS
        .iter()
        .find(|(_, regex)| regex.is_match(line))
        .map(|(word, _)| *word)
}

/// Whether a line separates an answer from the original message.
pub(super) fn is_separator(line: &str) -> bool {
    line.len() <= 200 && is_ruled(line) && SEPARATOR.is_match(line) && !FORWARD.is_match(line)
}

/// Whether a line has what a separator is drawn with; cheaper than the pattern.
fn is_ruled(line: &str) -> bool {
    line.contains(['-', '_', '=', '*', '‐', '–', '—'])
}

/// Whether a line stands above a forwarded message.
pub(super) fn is_forward(line: &str) -> bool {
    line.len() <= 200 && FORWARD.is_match(line)
}

/// Whether a line is a rule across the page.
pub(super) fn is_rule(line: &str) -> bool {
    line.len() <= 200 && is_ruled(line) && RULE.is_match(line)
}

/// Whether a header block begins on line `at`: three different words within few lines, among them From or a date.
/// `is_below_separator`: two do, where a rule stands above.
pub(super) fn begins_at(lines: &[&str], at: usize, is_below_separator: bool) -> bool {
    let Some(first) = lines.get(at).and_then(|line| word(line)) else {
        return false;
    };
    if !matches!(first, Word::From | Word::Date | Word::Subject | Word::To) {
        return false;
    }
    let mut seen = vec![first];
    let mut gap = 0_usize;
    for line in lines.iter().skip(at.saturating_add(1)).take(BLOCK_LINES) {
        match word(line) {
            Some(word) => {
                gap = 0;
                if !seen.contains(&word) {
                    seen.push(word);
                }
            }
            // Empty lines between fields, and values that go on in the next line.
            None if gap < 2 => gap = gap.saturating_add(1),
            None => break,
        }
    }
    // A firewall's log has From, To and Date too.
    let block = lines.iter().skip(at).take(BLOCK_LINES);
    if !seen.contains(&Word::Subject) && !is_below_separator && !block.clone().any(|line| line.contains('@')) {
        return false;
    }
    let needed = if is_below_separator { 2 } else { 3 };
    seen.contains(&Word::From) && seen.len() >= needed
        || seen.contains(&Word::Date) && seen.contains(&Word::To) && seen.contains(&Word::Subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_need_three_words_and_separators_need_their_dashes() {
        for (text, is_block) in [
            ("From: Ann\nSent: Monday\nTo: Bob\nSubject: x", true),
            ("*Von:* Ann\n*Gesendet:* Montag\n*An:* Bob\n*Betreff:* x", true),
            ("De : Ann\nEnvoyé : lundi\nÀ : Bob\nObjet : x", true),
            ("From: Ann <a@b.example>\n\nSent: Monday\n\nTo: Bob", true),
            ("From: 10.0.0.1\nTo: 10.0.0.2\nDate: today", false),
            ("发件人: Ann\n发送时间: 2026\n收件人: Bob\n主题: x", true),
            ("From: the beginning\nit was like that", false),
            ("To: do", false),
        ] {
            assert_eq!(
                begins_at(&text.lines().collect::<Vec<_>>(), 0, false),
                is_block,
                "{text}"
            );
        }
        for (line, separates, forwards) in [
            ("-----Original Message-----", true, false),
            ("-----Ursprüngliche Nachricht-----", true, false),
            ("---------- Forwarded message ----------", false, true),
            ("Begin forwarded message:", false, true),
            ("the original message said", false, false),
            ("----------", false, false),
        ] {
            assert_eq!((is_separator(line), is_forward(line)), (separates, forwards), "{line}");
        }
    }
}
