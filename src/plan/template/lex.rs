//! Text into what stands between actions, and actions into tokens.

use super::Fault;

/// A stretch of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Written as it is.
    Text(String),
    /// Between two pairs of braces, and the line it begins on.
    Action(Vec<Token>, usize),
}

/// One token of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    /// As it is written.
    pub text: String,
    /// White space stands before it, or it comes first.
    pub is_apart: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// `.name`, a field.
    Field(String),
    /// `$name`, or `$` alone.
    Variable(String),
    /// A keyword, a constant or the name of a function.
    Word(String),
    /// A quoted text.
    Text(String),
    /// A whole number, or a character.
    Whole(i64),
    /// A number with a fraction.
    Real(f64),
    /// `.` alone.
    Dot,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `|`
    Pipe,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    /// `,`
    Comma,
}

/// Takes a template apart.
///
/// # Errors
/// An action, a comment or a quoted text without an end; what is no token.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut is_trimmed = false;
    loop {
        let rest = &text[at..];
        let open = rest.find("{{");
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        if is_trimmed {
            plain = plain.trim_start();
        }
        let Some(open) = open else {
            push_text(&mut pieces, plain);
            return Ok(pieces);
        };
        let line = 1 + text[..at + open].matches('\n').count();
        let mut inside = &rest[open + 2..];
        let mut inside_at = at + open + 2;
        if let Some(trimmed) = inside.strip_prefix('-').filter(|rest| starts_blank(rest)) {
            plain = plain.trim_end();
            inside_at += 1;
            inside = trimmed;
        }
        push_text(&mut pieces, plain);
        let (tokens, length, trims) = if inside.trim_start().starts_with("/*") {
            let (length, trims) = skip_comment(inside).map_err(|text| Fault::new(line, text))?;
            (None, length, trims)
        } else {
            let found = lex_action(inside).map_err(|text| Fault::new(line, text))?;
            (Some(found.0), found.1, found.2)
        };
        if let Some(tokens) = tokens {
            pieces.push(Piece::Action(tokens, line));
        }
        at = inside_at + length;
        is_trimmed = trims;
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn starts_blank(text: &str) -> bool {
    text.starts_with([' ', '\t', '\r', '\n'])
}

/// How long a comment is up to the end of its action, and whether that trims what follows.
fn skip_comment(text: &str) -> Result<(usize, bool), String> {
    let end = text.find("*/").ok_or("unclosed comment")? + 2;
    let rest = &text[end..];
    if rest.starts_with("}}") {
        return Ok((end + 2, false));
    }
    let after = rest.trim_start();
    if after.len() < rest.len() && after.starts_with("-}}") {
        return Ok((end + (rest.len() - after.len()) + 3, true));
    }
    Err("comment ends before closing delimiter".into())
}

/// The tokens of an action, how long it is with its end, and whether that trims what follows.
fn lex_action(text: &str) -> Result<(Vec<Token>, usize, bool), String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut is_apart = true;
    loop {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        if blank > 0 {
            is_apart = true;
            if rest[blank..].starts_with("-}}") {
                return Ok((tokens, at + blank + 3, true));
            }
            at += blank;
            continue;
        }
        if rest.starts_with("}}") {
            return Ok((tokens, at + 2, false));
        }
        let (kind, length) = token(rest)?;
        tokens.push(Token { kind, text: rest[..length].to_owned(), is_apart });
        at += length;
        is_apart = false;
    }
}

fn is_name(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn name_len(text: &str) -> usize {
    text.find(|character| !is_name(character)).unwrap_or(text.len())
}

/// The first token of a text, and its length.
fn token(text: &str) -> Result<(Kind, usize), String> {
    let mut characters = text.chars();
    let first = characters.next().ok_or("unclosed action")?;
    let second = characters.next();
    let one = |kind| Ok((kind, 1));
    match first {
        '(' => one(Kind::Open),
        ')' => one(Kind::Close),
        '|' => one(Kind::Pipe),
        ',' => one(Kind::Comma),
        '=' => one(Kind::Assign),
        ':' if second == Some('=') => Ok((Kind::Declare, 2)),
        ':' => Err("expected :=".into()),
        '"' | '\'' | '`' => quoted(text, first),
        '$' => {
            let length = 1 + name_len(&text[1..]);
            Ok((Kind::Variable(text[1..length].to_owned()), length))
        }
        '.' if second.is_none_or(|next| !next.is_ascii_digit()) => match name_len(&text[1..]) {
            0 => one(Kind::Dot),
            length => Ok((Kind::Field(text[1..=length].to_owned()), 1 + length)),
        },
        '+' | '-' | '.' | '0'..='9' => number(text),
        first if is_name(first) => {
            let length = name_len(text);
            Ok((Kind::Word(text[..length].to_owned()), length))
        }
        '\n' | '\r' => Err("unclosed action".into()),
        other => Err(format!("unexpected {other:?} in command")),
    }
}

/// A text in quotes, or a character, which is a number.
fn quoted(text: &str, quote: char) -> Result<(Kind, usize), String> {
    let unterminated = || match quote {
        '`' => "unterminated raw quoted string",
        '"' => "unterminated quoted string",
        _ => "unterminated character constant",
    };
    let mut plain = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\n' if quote != '`' => break,
            '\\' if quote != '`' => plain.push(escaped(&mut characters)?),
            character if character == quote => {
                let length = at + quote.len_utf8();
                if quote != '\'' {
                    return Ok((Kind::Text(plain), length));
                }
                let mut only = plain.chars();
                return match (only.next(), only.next()) {
                    (Some(only), None) => Ok((Kind::Whole(i64::from(u32::from(only))), length)),
                    _ => Err(format!("malformed character constant: {}", &text[..length])),
                };
            }
            character => plain.push(character),
        }
    }
    Err(unterminated().into())
}

/// What stands behind a backslash.
fn escaped(rest: &mut impl Iterator<Item = (usize, char)>) -> Result<char, String> {
    let (_, first) = rest.next().ok_or("unterminated quoted string")?;
    let (number, digits, radix) = match first {
        'a' => return Ok('\u{7}'),
        'b' => return Ok('\u{8}'),
        'f' => return Ok('\u{c}'),
        'n' => return Ok('\n'),
        'r' => return Ok('\r'),
        't' => return Ok('\t'),
        'v' => return Ok('\u{b}'),
        '\\' | '"' | '\'' => return Ok(first),
        'x' => (0, 2, 16),
        'u' => (0, 4, 16),
        'U' => (0, 8, 16),
        '0'..='7' => (u32::from(first) - u32::from('0'), 2, 8),
        _ => return Err("invalid syntax".into()),
    };
    let number = (0..digits).try_fold(number, |number: u32, _| {
        let digit = rest.next().and_then(|(_, character)| character.to_digit(radix))?;
        number.checked_mul(radix)?.checked_add(digit)
    });
    number.and_then(char::from_u32).ok_or_else(|| "invalid syntax".into())
}

/// A number as Go writes it: signed, in several bases, digits parted by underscores.
fn number(text: &str) -> Result<(Kind, usize), String> {
    let mut length = 0;
    let mut before = ' ';
    for character in text.chars() {
        let is_sign = matches!(character, '+' | '-');
        let goes_on = match is_sign {
            true => length == 0 || matches!(before, 'e' | 'E' | 'p' | 'P'),
            false => is_name(character) || character == '.',
        };
        if !goes_on {
            break;
        }
        length += character.len_utf8();
        before = character;
    }
    let written = &text[..length];
    let bad = || format!("bad number syntax: {written:?}");
    let (sign, digits) = match written.as_bytes().first() {
        Some(b'-') => (-1, &written[1..]),
        Some(b'+') => (1, &written[1..]),
        _ => (1, written),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Err(bad());
    }
    let digits = digits.replace('_', "");
    let lower = digits.to_lowercase();
    let based = ["0x", "0o", "0b"].iter().zip([16, 8, 2]);
    let based = based.filter_map(|(start, radix)| Some((lower.strip_prefix(*start)?, radix)));
    let (whole, radix) = based.clone().next().unwrap_or_else(|| {
        // A zero in front makes it octal.
        let is_octal = lower.len() > 1 && lower.starts_with('0');
        (&*lower, if is_octal { 8 } else { 10 })
    });
    if let Ok(whole) = i64::from_str_radix(whole, radix) {
        return Ok((Kind::Whole(sign * whole), length));
    }
    if whole.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(format!("integer overflow: {written:?}"));
    }
    let real: f64 = lower.parse().map_err(|_| bad())?;
    Ok((Kind::Real(if sign < 0 { -real } else { real }), length))
}
