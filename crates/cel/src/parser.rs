//! From tokens to a tree, by precedence climbing.
//!
//! The grammar is that of the language definition, with optional syntax and backquoted fields.
//! Macros are nodes of their own instead of being expanded: what they cost is then plain to see.
//! `&&` and `||` are associative, so long chains become balanced trees; other chains count as
//! depth.

mod macros;

use crate::error::CompileError;
use crate::functions::{self, is_namespace};
use crate::lexer::{Token, tokens};
use crate::syntax::{Access, Call, Element, Entry, Expr, Kind, Literal};
use crate::{DEPTH_MAX, NODES_MAX, SOURCE_BYTES_MAX};

/// Words that the language keeps for itself.
const RESERVED: [&str; 16] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
];

type Result<T, E = CompileError> = std::result::Result<T, E>;

/// Parses a source.
pub(crate) fn parse(source: &str) -> Result<Expr> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(CompileError::new(0, format!("expression has {} bytes; at most {SOURCE_BYTES_MAX} are accepted", source.len())));
    }
    let mut parser = Parser { tokens: tokens(source)?, next: 0, nesting: 0, nodes: 0 };
    let root = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(root),
        _ => Err(parser.unexpected("the end of the expression")),
    }
}

pub(crate) struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    /// Calls of [`Parser::expression`] and unary operators under way.
    nesting: usize,
    nodes: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    /// The next token; the end is never passed.
    fn advance(&mut self) -> Token {
        let token = self.tokens[self.next].1.clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected(&format!("'{sign}'"))) }
    }

    fn unexpected(&self, expected: &str) -> CompileError {
        let found = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Sign(sign) => format!("'{sign}'"),
            Token::Ident(name) | Token::Quoted(name) => format!("'{name}'"),
            _ => "a literal".to_owned(),
        };
        CompileError::new(self.at(), format!("Syntax error: found {found}, expecting {expected}"))
    }

    fn node(&mut self, at: usize, depth_below: usize, kind: Kind) -> Result<Expr> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(CompileError::new(at, format!("expression has more than {NODES_MAX} parts")));
        }
        if depth_below >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        Ok(Expr { at, depth: depth_below + 1, kind })
    }

    fn enter(&mut self) -> Result<()> {
        self.nesting += 1;
        if self.nesting > DEPTH_MAX { Err(too_deep(self.at())) } else { Ok(()) }
    }

    fn expression(&mut self) -> Result<Expr> {
        self.enter()?;
        let condition = self.binary(0)?;
        let at = self.at();
        let parsed = if self.take("?") {
            let then = self.binary(0)?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            let depth = condition.depth.max(then.depth).max(otherwise.depth);
            self.node(at, depth, Kind::Ternary(Box::new([condition, then, otherwise])))?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(parsed)
    }

    /// Operators of at least a level, by precedence climbing: one frame of the stack for a level
    /// of brackets, not one for each level of operators.
    fn binary(&mut self, lowest: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        loop {
            let at = self.at();
            let Some((sign, level)) = self.operator().filter(|(_, level)| *level >= lowest) else { return Ok(left) };
            if let "||" | "&&" = sign {
                let mut terms = vec![left];
                while self.take(sign) {
                    terms.push(self.binary(level + 1)?);
                }
                left = self.balanced(at, terms, if sign == "||" { Kind::Or } else { Kind::And })?;
                continue;
            }
            self.advance();
            let right = self.binary(level + 1)?;
            left = self.join(at, sign, left, right)?;
        }
    }

    /// The binary operator that stands here, and how tightly it binds.
    fn operator(&self) -> Option<(&'static str, u8)> {
        match self.peek() {
            Token::Sign(sign) => match *sign {
                "||" => Some((sign, 1)),
                "&&" => Some((sign, 2)),
                "<" | "<=" | ">" | ">=" | "==" | "!=" => Some((sign, 3)),
                "+" | "-" => Some((sign, 4)),
                "*" | "/" | "%" => Some((sign, 5)),
                _ => None,
            },
            Token::Ident(name) if **name == *"in" => Some(("in", 3)),
            _ => None,
        }
    }

    fn join(&mut self, at: usize, sign: &str, left: Expr, right: Expr) -> Result<Expr> {
        let depth = left.depth.max(right.depth);
        match sign {
            "==" | "!=" => self.node(at, depth, Kind::Equal { sides: Box::new([left, right]), negated: sign == "!=" }),
            "in" => self.node(at, depth, Kind::In(Box::new([left, right]))),
            _ => self.call(at, &format!("_{sign}_"), false, vec![left, right]),
        }
    }

    /// A tree of logarithmic depth over the terms, in their order.
    fn balanced(&mut self, at: usize, mut terms: Vec<Expr>, join: fn(Box<Expr>, Box<Expr>) -> Kind) -> Result<Expr> {
        while terms.len() > 1 {
            let mut joined = Vec::with_capacity(terms.len().div_ceil(2));
            let mut rest = terms.into_iter();
            while let Some(left) = rest.next() {
                joined.push(match rest.next() {
                    Some(right) => self.node(at, left.depth.max(right.depth), join(Box::new(left), Box::new(right)))?,
                    None => left,
                });
            }
            terms = joined;
        }
        terms.pop().ok_or_else(|| self.unexpected("an expression"))
    }

    fn unary(&mut self) -> Result<Expr> {
        let at = self.at();
        let Token::Sign(sign @ ("!" | "-")) = *self.peek() else { return self.member() };
        self.advance();
        if let ("-", Token::Int(value)) = (sign, self.peek().clone()) {
            // The smallest number has no positive twin.
            self.advance();
            let value = 0_i64.checked_sub_unsigned(value).ok_or_else(|| CompileError::new(at, "Syntax error: invalid int literal"))?;
            let literal = self.node(at, 0, Kind::Literal(Literal::Int(value)))?;
            return self.selections(literal);
        }
        if let ("-", Token::Double(value)) = (sign, self.peek().clone()) {
            self.advance();
            let literal = self.node(at, 0, Kind::Literal(Literal::Double(-value)))?;
            return self.selections(literal);
        }
        self.enter()?;
        let operand = self.unary()?;
        self.nesting -= 1;
        self.call(at, if sign == "!" { "!_" } else { "-_" }, false, vec![operand])
    }

    fn member(&mut self) -> Result<Expr> {
        let primary = self.primary()?;
        self.selections(primary)
    }

    /// What follows a primary expression: fields, methods, indexes.
    fn selections(&mut self, mut operand: Expr) -> Result<Expr> {
        loop {
            let at = self.at();
            if self.take(".") {
                let optional = self.take("?");
                let quoted = matches!(self.peek(), Token::Quoted(_));
                let (Token::Ident(field) | Token::Quoted(field)) = self.peek().clone() else {
                    return Err(self.unexpected("a field"));
                };
                self.advance();
                if !optional && !quoted && self.take("(") {
                    operand = self.method(at, operand, &field)?;
                    continue;
                }
                let access = if optional { Access::Optional } else { Access::Value };
                operand = self.node(at, operand.depth, Kind::Select { operand: Box::new(operand), field, access })?;
            } else if self.take("[") {
                let optional = self.take("?");
                let index = self.expression()?;
                self.expect("]")?;
                let depth = operand.depth.max(index.depth);
                operand = self.node(at, depth, Kind::Index { operand: Box::new(operand), index: Box::new(index), optional })?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// A call of a method; its opening bracket was read.
    fn method(&mut self, at: usize, operand: Expr, name: &str) -> Result<Expr> {
        if let Kind::Ident(space) = &operand.kind
            && is_namespace(space)
        {
            let qualified = format!("{space}.{name}");
            if qualified == "cel.bind" {
                return self.bind(at);
            }
            if functions::exists(&qualified) {
                let arguments = self.arguments()?;
                return self.call(at, &qualified, false, arguments);
            }
        }
        if macros::is_macro(name) {
            return self.macro_call(at, operand, name);
        }
        let mut arguments = vec![operand];
        arguments.extend(self.arguments()?);
        self.call(at, name, true, arguments)
    }

    /// Arguments up to the closing bracket.
    fn arguments(&mut self) -> Result<Vec<Expr>> {
        let mut arguments = Vec::new();
        while !self.take(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.expression()?);
        }
        Ok(arguments)
    }

    fn call(&mut self, at: usize, name: &str, is_member: bool, arguments: Vec<Expr>) -> Result<Expr> {
        let depth = arguments.iter().map(|argument| argument.depth).max().unwrap_or(0);
        let candidates = functions::candidates(name, is_member, arguments.len());
        self.node(at, depth, Kind::Call(Call { name: name.into(), is_member, arguments, candidates }))
    }

    fn primary(&mut self) -> Result<Expr> {
        let at = self.at();
        match self.peek().clone() {
            Token::Int(value) => {
                self.advance();
                let value = i64::try_from(value).map_err(|_| CompileError::new(at, "Syntax error: invalid int literal"))?;
                self.node(at, 0, Kind::Literal(Literal::Int(value)))
            }
            Token::Uint(value) => self.literal(at, Literal::Uint(value)),
            Token::Double(value) => self.literal(at, Literal::Double(value)),
            Token::Text(value) => self.literal(at, Literal::Text(value)),
            Token::Bytes(value) => self.literal(at, Literal::Bytes(value)),
            Token::Sign("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                self.advance();
                self.list(at)
            }
            Token::Sign("{") => {
                self.advance();
                self.map(at)
            }
            Token::Sign(".") => {
                // A name of the outermost scope; there is no other here.
                self.advance();
                self.name(self.at())
            }
            Token::Ident(_) => self.name(at),
            _ => Err(self.unexpected("an expression")),
        }
    }

    fn literal(&mut self, at: usize, literal: Literal) -> Result<Expr> {
        self.advance();
        self.node(at, 0, Kind::Literal(literal))
    }

    fn name(&mut self, at: usize) -> Result<Expr> {
        let Token::Ident(name) = self.peek().clone() else { return Err(self.unexpected("a name")) };
        match &*name {
            "true" => return self.literal(at, Literal::Bool(true)),
            "false" => return self.literal(at, Literal::Bool(false)),
            "null" => return self.literal(at, Literal::Null),
            "in" => return Err(self.unexpected("an expression")),
            reserved if RESERVED.contains(&reserved) => {
                return Err(CompileError::new(at, format!("Syntax error: reserved identifier: {reserved}")));
            }
            _ => {}
        }
        self.advance();
        if !self.take("(") {
            return self.node(at, 0, Kind::Ident(name));
        }
        if &*name == "has" {
            return self.has(at);
        }
        let arguments = self.arguments()?;
        self.call(at, &name, false, arguments)
    }

    fn list(&mut self, at: usize) -> Result<Expr> {
        let mut elements = Vec::new();
        while !self.take("]") {
            if !elements.is_empty() {
                self.expect(",")?;
                if self.take("]") {
                    break;
                }
            }
            let optional = self.take("?");
            elements.push(Element { value: self.expression()?, optional });
        }
        let depth = elements.iter().map(|element| element.value.depth).max().unwrap_or(0);
        self.node(at, depth, Kind::List(elements))
    }

    fn map(&mut self, at: usize) -> Result<Expr> {
        let mut entries = Vec::new();
        while !self.take("}") {
            if !entries.is_empty() {
                self.expect(",")?;
                if self.take("}") {
                    break;
                }
            }
            let optional = self.take("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expression()?, optional });
        }
        let depth = entries.iter().map(|entry| entry.key.depth.max(entry.value.depth)).max().unwrap_or(0);
        self.node(at, depth, Kind::Map(entries))
    }
}

fn too_deep(at: usize) -> CompileError {
    CompileError::new(at, format!("expression recursion limit exceeded: {DEPTH_MAX}"))
}
