//! Tokens into a tree, as Go's `text/template/parse` does it.

use std::collections::BTreeMap;

use super::func::Functions;
use super::lex::{Kind, Piece, Token, lex};
use super::{DEPTH_MAX, Fault};

/// A template: what it writes, and the templates that it defines.
#[derive(Debug)]
pub(super) struct Template {
    pub nodes: Vec<Node>,
    pub defined: BTreeMap<String, Vec<Node>>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Call(String, Option<Pipe>),
    Break,
    Continue,
}

/// A condition and what follows from it.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub pipe: Pipe,
    pub nodes: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// Commands, each with the value of the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipe {
    /// The variables that get its value: one, or key and value of a range.
    pub variables: Vec<String>,
    /// The variables are there already.
    pub is_assignment: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone)]
pub(super) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Whole(i64),
    Real(f64),
    Text(String),
    /// A chain of fields of the dot.
    Fields(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    /// A pipe in parentheses, and fields of its value.
    Pipe(Box<Pipe>, Vec<String>),
}

/// Parses a text.
///
/// # Errors
/// Where and how it is no template.
pub(super) fn parse(text: &str, functions: Functions) -> Result<Template, Fault> {
    let pieces = lex(text)?;
    let lines = 1 + text.matches('\n').count();
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        line: 1,
        lines,
        functions,
        variables: vec![String::new()],
        loops: 0,
        depth: 0,
        defined: BTreeMap::new(),
    };
    let (nodes, end) = parser.list()?;
    match end {
        Close::Text => Ok(Template { nodes, defined: parser.defined }),
        Close::End => Err(parser.fault("unexpected {{end}}")),
        Close::Else(_) => Err(parser.fault("unexpected {{else}}")),
    }
}

/// What a list of nodes ends with.
enum Close {
    /// The text.
    Text,
    End,
    /// And the rest of that action.
    Else(Action),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    line: usize,
    /// How many lines the text has.
    lines: usize,
    functions: Functions,
    /// The variables that can be named here, `$` among them.
    variables: Vec<String>,
    /// How many ranges this is in.
    loops: usize,
    depth: usize,
    defined: BTreeMap<String, Vec<Node>>,
}

/// The tokens of one action that are left.
struct Action {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Action {
    fn peek(&mut self) -> Option<&Kind> {
        self.tokens.peek().map(|token| &token.kind)
    }

    /// The first word, if it is one of these.
    fn keyword(&mut self, words: &[&str]) -> Option<String> {
        let is_keyword =
            |token: &Token| matches!(&token.kind, Kind::Word(word) if words.contains(&&**word));
        self.tokens.next_if(is_keyword).map(|token| token.text)
    }
}

const KEYWORDS: &[&str] =
    &["if", "with", "range", "else", "end", "define", "block", "template", "break", "continue"];

impl Parser {
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.line, message)
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, Fault> {
        let text = match KEYWORDS.contains(&&*token.text) {
            true => format!("<{}>", token.text),
            false => format!("{:?}", token.text),
        };
        Err(self.fault(format!("unexpected {text} in {context}")))
    }

    /// Nodes up to the end of what they are in.
    fn list(&mut self) -> Result<(Vec<Node>, Close), Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(format!("more than {DEPTH_MAX} levels in each other")));
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.pieces.next() {
                None => {
                    self.line = self.lines;
                    break Close::Text;
                }
                Some(Piece::Text(text)) => nodes.push(Node::Text(text)),
                Some(Piece::Action(tokens, line)) => {
                    self.line = line;
                    let mut action = Action { tokens: tokens.into_iter().peekable() };
                    match action.keyword(KEYWORDS).as_deref() {
                        Some("end") => {
                            self.finish(&mut action, "end")?;
                            break Close::End;
                        }
                        Some("else") => break Close::Else(action),
                        Some(word) => nodes.extend(self.statement(word, action)?),
                        None => nodes.push(Node::Action(self.whole_pipe(action, "command")?)),
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// An action that begins with a keyword.
    fn statement(&mut self, word: &str, mut action: Action) -> Result<Option<Node>, Fault> {
        let known = self.variables.len();
        let node = match word {
            "if" => Some(Node::If(self.branch(action, "if")?)),
            "with" => Some(Node::With(self.branch(action, "with")?)),
            "range" => Some(Node::Range(self.branch(action, "range")?)),
            "define" => {
                let name = self.name(&mut action, "define clause")?;
                self.finish(&mut action, "define clause")?;
                self.define(name)?;
                None
            }
            "block" => {
                let name = self.name(&mut action, "block clause")?;
                let pipe = self.whole_pipe(action, "block clause")?;
                self.define(name.clone())?;
                Some(Node::Call(name, Some(pipe)))
            }
            "template" => {
                let name = self.name(&mut action, "template clause")?;
                let pipe = match action.peek() {
                    None => None,
                    Some(_) => Some(self.whole_pipe(action, "template clause")?),
                };
                Some(Node::Call(name, pipe))
            }
            _ => {
                self.finish(&mut action, word)?;
                if self.loops == 0 {
                    return Err(self.fault(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                Some(if word == "break" { Node::Break } else { Node::Continue })
            }
        };
        self.variables.truncate(known.max(1));
        Ok(node)
    }

    /// The rest of a branch: its condition, its nodes, and what stands behind `else`.
    fn branch(&mut self, action: Action, word: &'static str) -> Result<Branch, Fault> {
        let known = self.variables.len();
        let pipe = self.whole_pipe(action, word)?;
        self.loops += usize::from(word == "range");
        let (nodes, end) = self.list()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            Close::Text => return Err(self.fault("unexpected EOF")),
            Close::End => Vec::new(),
            Close::Else(mut action) => match action.keyword(&["if", "with"]) {
                // `else if` needs no end of its own.
                Some(again) if again == word => {
                    let branch = self.deeper(|parser| parser.branch(action, word))?;
                    vec![if word == "if" { Node::If(branch) } else { Node::With(branch) }]
                }
                Some(again) => return Err(self.fault(format!("unexpected <{again}> in else"))),
                None => {
                    self.finish(&mut action, "else")?;
                    let (nodes, end) = self.list()?;
                    match end {
                        Close::Text => return Err(self.fault("unexpected EOF")),
                        Close::End => nodes,
                        Close::Else(_) => return Err(self.fault("expected end; found {{else}}")),
                    }
                }
            },
        };
        self.variables.truncate(known);
        Ok(Branch { pipe, nodes, otherwise })
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(format!("more than {DEPTH_MAX} levels in each other")));
        }
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }

    /// A template of this name, up to its end.
    fn define(&mut self, name: String) -> Result<(), Fault> {
        let outer = std::mem::replace(&mut self.variables, vec![String::new()]);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, end) = self.list()?;
        (self.variables, self.loops) = (outer, loops);
        match end {
            Close::End => {
                self.defined.insert(name, nodes);
                Ok(())
            }
            Close::Text => Err(self.fault("unexpected EOF")),
            Close::Else(_) => Err(self.fault("unexpected {{else}} in define clause")),
        }
    }

    fn name(&self, action: &mut Action, context: &str) -> Result<String, Fault> {
        match action.tokens.next() {
            Some(Token { kind: Kind::Text(name), .. }) => Ok(name),
            Some(token) => self.unexpected(&token, context),
            None => Err(self.fault(format!("unexpected \"}}}}\" in {context}"))),
        }
    }

    fn finish(&self, action: &mut Action, context: &str) -> Result<(), Fault> {
        match action.tokens.next() {
            None => Ok(()),
            Some(token) => self.unexpected(&token, context),
        }
    }

    /// The pipe that is all the rest of an action.
    fn whole_pipe(&mut self, mut action: Action, context: &str) -> Result<Pipe, Fault> {
        let pipe = self.pipe(&mut action, context, true)?;
        match action.tokens.next() {
            None => Ok(pipe),
            Some(token) => {
                self.unexpected(&token, if context == "range" { "range" } else { "command" })
            }
        }
    }

    fn pipe(&mut self, action: &mut Action, context: &str, declares: bool) -> Result<Pipe, Fault> {
        let mut pipe = Pipe::default();
        if declares {
            self.declarations(action, context, &mut pipe)?;
        }
        loop {
            let command = self.command(action)?;
            if command.is_empty() {
                let missing = match pipe.commands.is_empty() {
                    true => format!("missing value for {context}"),
                    false => "missing value for command".to_owned(),
                };
                return Err(self.fault(missing));
            }
            pipe.commands.push(command);
            if action.tokens.next_if(|token| token.kind == Kind::Pipe).is_none() {
                break;
            }
        }
        let is_constant = |operand: &Operand| {
            use Operand::{Bool, Dot, Nil, Real, Text, Whole};
            matches!(operand, Bool(_) | Dot | Nil | Real(_) | Text(_) | Whole(_))
        };
        for (at, command) in pipe.commands.iter().enumerate().skip(1) {
            if is_constant(&command[0]) {
                let stage = at + 1;
                return Err(self.fault(format!("non executable command in pipeline stage {stage}")));
            }
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, and in a range `$k, $v :=`.
    fn declarations(
        &mut self,
        action: &mut Action,
        context: &str,
        pipe: &mut Pipe,
    ) -> Result<(), Fault> {
        let mut ahead = action.tokens.clone();
        let mut names = Vec::new();
        loop {
            let Some(Token { kind: Kind::Variable(name), .. }) = ahead.next() else {
                return Ok(());
            };
            names.push(name);
            match ahead.next().map(|token| token.kind) {
                Some(Kind::Comma) if context == "range" && names.len() < 2 => {}
                Some(Kind::Comma) => {
                    return Err(self.fault(format!("too many declarations in {context}")));
                }
                Some(Kind::Declare) => {
                    self.variables.extend(names.iter().cloned());
                    break;
                }
                Some(Kind::Assign) => {
                    pipe.is_assignment = true;
                    break;
                }
                _ => return Ok(()),
            }
        }
        action.tokens = ahead;
        pipe.variables = names;
        Ok(())
    }

    fn command(&mut self, action: &mut Action) -> Result<Vec<Operand>, Fault> {
        let mut operands = Vec::new();
        loop {
            match action.peek() {
                None | Some(Kind::Pipe | Kind::Close) => return Ok(operands),
                Some(_) => {}
            }
            let token = action.tokens.peek().cloned();
            match token {
                Some(token) if !operands.is_empty() && !token.is_apart => {
                    return self.unexpected(&token, "operand");
                }
                _ => operands.push(self.operand(action)?),
            }
        }
    }

    fn operand(&mut self, action: &mut Action) -> Result<Operand, Fault> {
        let token = action.tokens.next().expect("there is one");
        Ok(match token.kind {
            Kind::Dot => Operand::Dot,
            Kind::Whole(number) => Operand::Whole(number),
            Kind::Real(number) => Operand::Real(number),
            Kind::Text(text) => Operand::Text(text),
            Kind::Word(word) => match &*word {
                "nil" => Operand::Nil,
                "true" | "false" => Operand::Bool(word == "true"),
                _ if KEYWORDS.contains(&&*word) => {
                    return Err(self.fault(format!("unexpected <{word}> in operand")));
                }
                _ if self.functions.has(&word) => Operand::Function(word),
                _ => return Err(self.fault(format!("function {word:?} not defined"))),
            },
            Kind::Field(name) => {
                let mut names = vec![name];
                names.extend(fields(action));
                Operand::Fields(names)
            }
            Kind::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err(self.fault(format!("undefined variable \"${name}\"")));
                }
                Operand::Variable(name, fields(action))
            }
            Kind::Open => {
                let pipe =
                    self.deeper(|parser| parser.pipe(action, "parenthesized pipeline", false))?;
                match action.tokens.next() {
                    Some(Token { kind: Kind::Close, .. }) => {}
                    Some(token) => return self.unexpected(&token, "parenthesized pipeline"),
                    None => return Err(self.fault("unclosed left paren")),
                }
                Operand::Pipe(Box::new(pipe), fields(action))
            }
            _ => return self.unexpected(&token, "command"),
        })
    }
}

/// The fields that follow an operand without a blank.
fn fields(action: &mut Action) -> Vec<String> {
    let mut names = Vec::new();
    let follows = |token: &Token| !token.is_apart && matches!(token.kind, Kind::Field(_));
    while let Some(Token { kind: Kind::Field(name), .. }) = action.tokens.next_if(follows) {
        names.push(name);
    }
    names
}
