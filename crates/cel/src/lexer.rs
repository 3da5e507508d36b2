//! From text to tokens.

use std::sync::Arc;

use crate::error::CompileError;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(Box<str>),
    /// A field's name in backquotes.
    Quoted(Box<str>),
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Arc<[u8]>),
    /// An operator or bracket.
    Sign(&'static str),
    End,
}

/// Longer ones first: the first that fits is taken.
const SIGNS: [&str; 27] = [
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", ";", "=",
    "|",
];

/// All tokens with their places, the end last.
pub(crate) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, CompileError> {
    let mut lexer = Lexer { source, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        found.push((at, token));
        if end {
            return Ok(found);
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn next(&mut self) -> Result<Token, CompileError> {
        let Some(first) = self.peek() else { return Ok(Token::End) };
        if let Some(literal) = self.text_literal()? {
            return Ok(literal);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let rest = self.rest();
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.at += end;
            return Ok(Token::Ident(rest[..end].into()));
        }
        let digit_after_point = self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if first.is_ascii_digit() || (first == '.' && digit_after_point) {
            return self.number();
        }
        if first == '`' {
            let rest = &self.rest()[1..];
            let end = rest.find('`').ok_or_else(|| CompileError::new(self.at, "Syntax error: unterminated field name"))?;
            let name = &rest[..end];
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ')) {
                return Err(CompileError::new(self.at, "Syntax error: not a field name"));
            }
            self.at += end + 2;
            return Ok(Token::Quoted(name.into()));
        }
        match SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            None => Err(CompileError::new(self.at, format!("Syntax error: token recognition error at: '{}'", first.escape_default()))),
        }
    }

    fn number(&mut self) -> Result<Token, CompileError> {
        let start = self.at;
        let rest = self.rest();
        let wrong = |what: &str| CompileError::new(start, format!("Syntax error: invalid {what} literal"));
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            let value = u64::from_str_radix(&hex[..end], 16).map_err(|_| wrong("int"))?;
            self.at += 2 + end;
            return Ok(self.suffixed(value));
        }
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let mut end = digits(rest);
        let mut is_double = false;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            is_double = true;
            end += 1 + digits(&rest[end + 1..]);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(&rest[end + 1 + sign..]);
            if exponent > 0 {
                is_double = true;
                end += 1 + sign + exponent;
            }
        }
        self.at += end;
        if is_double {
            return rest[..end].parse().map(Token::Double).map_err(|_| wrong("double"));
        }
        let value = rest[..end].parse().map_err(|_| wrong("int"))?;
        Ok(self.suffixed(value))
    }

    fn suffixed(&mut self, value: u64) -> Token {
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Token::Uint(value);
        }
        Token::Int(value)
    }

    /// A text or bytes, with its prefixes, if one begins here.
    fn text_literal(&mut self) -> Result<Option<Token>, CompileError> {
        let start = self.at;
        let rest = self.rest();
        let prefix = rest.find(|c: char| !matches!(c, 'r' | 'R' | 'b' | 'B')).unwrap_or(rest.len());
        if prefix > 2 || !rest[prefix..].starts_with(['"', '\'']) {
            return Ok(None);
        }
        let letters = rest[..prefix].to_ascii_lowercase();
        if !matches!(letters.as_str(), "" | "r" | "b" | "rb" | "br") {
            return Ok(None);
        }
        let (raw, bytes) = (letters.contains('r'), letters.contains('b'));
        let body = &rest[prefix..];
        let one = &body[..1];
        let triple = one.repeat(3);
        let quote = if body.starts_with(&triple) { triple.as_str() } else { one };
        self.at += prefix + quote.len();
        let mut text = Vec::new();
        loop {
            let Some(c) = self.peek() else { return Err(CompileError::new(start, "Syntax error: unterminated string literal")) };
            if self.rest().starts_with(quote) {
                self.at += quote.len();
                break;
            }
            if matches!(c, '\n' | '\r') && quote.len() == 1 {
                return Err(CompileError::new(start, "Syntax error: unterminated string literal"));
            }
            self.at += c.len_utf8();
            if c == '\\' && !raw {
                self.escape(bytes, &mut text)?;
            } else {
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(Some(if bytes {
            Token::Bytes(text.into())
        } else {
            let text = String::from_utf8(text).map_err(|_| CompileError::new(start, "Syntax error: not UTF-8"))?;
            Token::Text(text.into())
        }))
    }

    fn escape(&mut self, bytes: bool, text: &mut Vec<u8>) -> Result<(), CompileError> {
        let start = self.at - 1;
        let wrong = || CompileError::new(start, "Syntax error: unable to unescape the string literal");
        let kind = self.peek().ok_or_else(wrong)?;
        self.at += kind.len_utf8();
        let code = match kind {
            'n' => 10,
            't' => 9,
            'r' => 13,
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => kind as u32,
            'x' | 'X' => self.code(2, 16).ok_or_else(wrong)?,
            'u' if !bytes => self.code(4, 16).ok_or_else(wrong)?,
            'U' if !bytes => self.code(8, 16).ok_or_else(wrong)?,
            '0'..='3' => {
                self.at -= 1;
                self.code(3, 8).ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        };
        if bytes {
            text.push(u8::try_from(code).map_err(|_| wrong())?);
        } else {
            let c = char::from_u32(code).ok_or_else(wrong)?;
            text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }

    fn code(&mut self, digits: usize, radix: u32) -> Option<u32> {
        let text = self.rest().get(..digits)?;
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let code = u32::from_str_radix(text, radix).ok()?;
        self.at += digits;
        Some(code)
    }
}
