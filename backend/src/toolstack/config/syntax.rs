//! The language of xl's configuration files, as libxlu reads it (Xen, tools/libs/util/libxlu_cfg_l.l, libxlu_cfg_y.y and
//! libxlu_cfg.c): `key = value` and `key += value`, one a line or with `;` between; a value is a string, a number or a list.

use std::collections::HashMap;
use std::fmt;

/// How deep lists may stand in lists; xl itself looks into two.
const DEPTH_MAX: usize = 64;

/// What a key is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string without its quotes, or the digits of a number.
    Text(Vec<u8>),
    /// A list.
    List(Vec<Placed>),
}

/// A value, and the line that it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Counted from 1.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// All keys with what they are set to at the end.
pub type Settings = HashMap<String, Placed>;

/// What xl would not read either, with few exceptions that are told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Something else than what has to follow.
    #[error("{expected} is expected, not {found}")]
    Unexpected {
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A string without its end.
    #[error("this string has no end; it has to end on its line")]
    Unclosed,
    /// A zero byte in a string.
    #[error("there is a zero byte in this string")]
    Zero,
    /// A backslash before something that it does not go with.
    #[error("{0} is no escape in a string; \\\\ is a backslash")]
    Escape(String),
    /// `\x41`, which xl refuses, and `\101`, which it leaves out without a word.
    #[error("{0}: escapes with numbers are not read by xl as they are meant; write the character itself")]
    Number(String),
    /// A comment at the very end.
    #[error("this comment has no end; xl wants an end of line behind it")]
    Comment,
    /// Lists in lists in lists.
    #[error("lists are nested more than {DEPTH_MAX} deep")]
    Depth,
    /// `+=` of different things.
    #[error("+= adds a list to a list or a string to a string; {0} was the other before")]
    Mixed(String),
}

/// What is wrong, and the line that it is on.
pub type Fault = (usize, SyntaxError);

/// Reads a whole text.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn parse(text: &[u8]) -> Result<Settings, Fault> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut settings = Settings::new();
    loop {
        let key = match lexer.next()? {
            (_, Token::End) => return Ok(settings),
            (_, Token::Mark(b'\n' | b';')) => continue,
            (_, Token::Word(key)) => key,
            other => return Err(unexpected("a key", other)),
        };
        let add = match lexer.next()? {
            (_, Token::Mark(b'=')) => false,
            (_, Token::Add) => true,
            other => return Err(unexpected("= or +=", other)),
        };
        let first = lexer.next()?;
        let mut placed = lexer.value(first, 0)?;
        match lexer.next()? {
            (_, Token::Mark(b'\n' | b';') | Token::End) => {}
            other => return Err(unexpected("the end of the line", other)),
        }
        if add && let Some(before) = settings.remove(&key) {
            placed.value = match (before.value, placed.value) {
                (Value::Text(before), Value::Text(more)) => Value::Text([before, more].concat()),
                (Value::List(before), Value::List(more)) => Value::List([before, more].concat()),
                _ => return Err((placed.line, SyntaxError::Mixed(key))),
            };
        }
        settings.insert(key, placed);
    }
}

enum Token {
    Word(String),
    /// A string or a number.
    Atom(Vec<u8>),
    /// One of `, [ ] = ;` and the end of a line.
    Mark(u8),
    /// `+=`
    Add,
    /// Nothing that there is.
    Other(u8),
    End,
}

/// As it is shown to the user.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Atom(text) => write!(f, "{:?}", String::from_utf8_lossy(text)),
            Self::Mark(b'\n') => f.write_str("the end of the line"),
            Self::Other(b'\r') => f.write_str("a carriage return (lines end as on Windows)"),
            Self::Mark(byte) | Self::Other(byte) => write!(f, "{}", byte.escape_ascii()),
            Self::Add => f.write_str("+="),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

fn unexpected(expected: &'static str, (line, found): (usize, Token)) -> Fault {
    (line, SyntaxError::Unexpected { expected, found: found.to_string() })
}

struct Lexer<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Lexer<'a> {
    /// The next token, with the line that it is on.
    fn next(&mut self) -> Result<(usize, Token), Fault> {
        loop {
            let line = self.line;
            let Some((&first, after)) = self.rest.split_first() else { return Ok((line, Token::End)) };
            let token = match first {
                b' ' | b'\t' => {
                    self.rest = after;
                    continue;
                }
                b'#' => {
                    let end = after.iter().position(|byte| *byte == b'\n');
                    self.rest = end.and_then(|end| after.get(end..)).ok_or((line, SyntaxError::Comment))?;
                    continue;
                }
                b'a'..=b'z' => {
                    let word = self.run(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_'));
                    return Ok((line, Token::Word(String::from_utf8_lossy(word).into_owned())));
                }
                b'0'..=b'9' => {
                    let digits = self.run(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'x'));
                    return Ok((line, Token::Atom(digits.to_vec())));
                }
                b'"' | b'\'' => return Ok((line, Token::Atom(self.string(first, after)?))),
                b'+' if after.starts_with(b"=") => Token::Add,
                b'\n' => {
                    self.line = line.saturating_add(1);
                    Token::Mark(first)
                }
                b',' | b'[' | b']' | b'=' | b';' => Token::Mark(first),
                _ => Token::Other(first),
            };
            let length = if matches!(token, Token::Add) { 2 } else { 1 };
            self.rest = self.rest.get(length..).unwrap_or_default();
            return Ok((line, token));
        }
    }

    /// As many bytes as are of a kind.
    fn run(&mut self, is_one: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|byte| !is_one(*byte)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        run
    }

    /// A string, from behind its first quote to behind its last.
    fn string(&mut self, quote: u8, after: &'a [u8]) -> Result<Vec<u8>, Fault> {
        let mut text = Vec::new();
        let mut bytes = after.iter();
        loop {
            let byte = match bytes.next() {
                None | Some(b'\n') => return Err((self.line, SyntaxError::Unclosed)),
                Some(0) => return Err((self.line, SyntaxError::Zero)),
                Some(b'\\') => match bytes.next() {
                    None | Some(b'\n') => return Err((self.line, SyntaxError::Unclosed)),
                    Some(escaped) => unescape(*escaped).map_err(|error| (self.line, error))?,
                },
                Some(byte) if *byte == quote => break,
                Some(byte) => *byte,
            };
            text.push(byte);
        }
        self.rest = bytes.as_slice();
        Ok(text)
    }

    /// A value that begins with this token.
    fn value(&mut self, first: (usize, Token), depth: usize) -> Result<Placed, Fault> {
        match first {
            (line, Token::Atom(text)) => Ok(Placed { line, value: Value::Text(text) }),
            (line, Token::Mark(b'[')) if depth >= DEPTH_MAX => Err((line, SyntaxError::Depth)),
            (line, Token::Mark(b'[')) => Ok(Placed { line, value: Value::List(self.list(depth)?) }),
            other => Err(unexpected("a \"string\", a number or a [ list ]", other)),
        }
    }

    /// The items of a list and its `]`. Lines may end between them, and a comma may stand behind the last.
    fn list(&mut self, depth: usize) -> Result<Vec<Placed>, Fault> {
        let mut items = Vec::new();
        loop {
            let first = self.next_of_list()?;
            if let (_, Token::Mark(b']')) = first {
                return Ok(items);
            }
            items.push(self.value(first, depth.saturating_add(1))?);
            match self.next_of_list()? {
                (_, Token::Mark(b',')) => {}
                (_, Token::Mark(b']')) => return Ok(items),
                other => return Err(unexpected("a comma or ]", other)),
            }
        }
    }

    fn next_of_list(&mut self) -> Result<(usize, Token), Fault> {
        loop {
            match self.next()? {
                (_, Token::Mark(b'\n')) => {}
                other => return Ok(other),
            }
        }
    }
}

fn unescape(escaped: u8) -> Result<u8, SyntaxError> {
    Ok(match escaped {
        b'"' | b'\'' | b'\\' => escaped,
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'x' | b'0'..=b'7' => {
            return Err(SyntaxError::Number(format!("\\{}", char::from(escaped))));
        }
        other => return Err(SyntaxError::Escape(format!("\\{}", other.escape_ascii()))),
    })
}
