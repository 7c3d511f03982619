//! Expanding a template, as Go's `text/template` executes it.

use super::func::{call, check_argument, check_count};
use super::parse::{Branch, Node, Operand, Pipe, Template};
use super::value::Value;
use super::{DEPTH_MAX, OUTPUT_MAX, STEPS_MAX};

/// Expands a template with this value for the dot. Answers how many steps that took, too.
///
/// # Errors
/// What cannot be evaluated, or that it takes too long.
pub(super) fn run(template: &Template, dot: Value) -> Result<(String, usize), String> {
    let mut runner = Runner { template, text: String::new(), steps: 0, depth: 0 };
    let mut scope = Scope { variables: vec![(String::new(), dot.clone())], dot };
    let run = runner.list(&template.nodes, &mut scope);
    run.map_err(|text| format!("executing \"expansion\": {text}"))?;
    Ok((runner.text, runner.steps))
}

struct Runner<'t> {
    template: &'t Template,
    text: String,
    steps: usize,
    depth: usize,
}

/// What names mean at a place.
struct Scope {
    dot: Value,
    /// The newest last.
    variables: Vec<(String, Value)>,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Runner<'_> {
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        match self.steps <= STEPS_MAX && self.text.len() <= OUTPUT_MAX {
            true => Ok(()),
            false => Err("it takes too long or writes too much".into()),
        }
    }

    fn list(&mut self, nodes: &[Node], scope: &mut Scope) -> Result<Flow, String> {
        for node in nodes {
            let flow = self.node(node, scope)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, scope: &mut Scope) -> Result<Flow, String> {
        self.step()?;
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, scope)?;
                if pipe.variables.is_empty() {
                    self.text.push_str(&value.print());
                }
            }
            Node::If(branch) => return self.branch(branch, scope, false),
            Node::With(branch) => return self.branch(branch, scope, true),
            Node::Range(branch) => return self.range(branch, scope),
            Node::Call(name, pipe) => self.template(name, pipe.as_ref(), scope)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn branch(
        &mut self,
        branch: &Branch,
        scope: &mut Scope,
        sets_dot: bool,
    ) -> Result<Flow, String> {
        let known = scope.variables.len();
        let value = self.pipe(&branch.pipe, scope)?;
        let flow = if value.is_true() {
            let outer = sets_dot.then(|| std::mem::replace(&mut scope.dot, value));
            let flow = self.list(&branch.nodes, scope)?;
            if let Some(outer) = outer {
                scope.dot = outer;
            }
            flow
        } else {
            self.list(&branch.otherwise, scope)?
        };
        scope.variables.truncate(known);
        Ok(flow)
    }

    fn range(&mut self, branch: &Branch, scope: &mut Scope) -> Result<Flow, String> {
        let known = scope.variables.len();
        let names = &branch.pipe.variables;
        let values = match self.pipe(&branch.pipe, scope)? {
            Value::Map(map) => map,
            other => return Err(format!("range can't iterate over {}", other.print())),
        };
        scope.variables.truncate(known);
        if values.is_empty() {
            return self.list(&branch.otherwise, scope);
        }
        let outer = scope.dot.clone();
        for (key, value) in values {
            let (key, value) = (Value::Text(key), Value::Text(value));
            match &names[..] {
                [] => {}
                [only] => scope.put(branch.pipe.is_assignment, only, value.clone())?,
                [first, second, ..] => {
                    scope.put(branch.pipe.is_assignment, first, key)?;
                    scope.put(branch.pipe.is_assignment, second, value.clone())?;
                }
            }
            scope.dot = value;
            let flow = self.list(&branch.nodes, scope)?;
            scope.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        scope.dot = outer;
        Ok(Flow::On)
    }

    fn template(
        &mut self,
        name: &str,
        pipe: Option<&Pipe>,
        scope: &mut Scope,
    ) -> Result<(), String> {
        let dot = match pipe {
            None => Value::Nothing,
            Some(pipe) => self.pipe(pipe, scope)?,
        };
        let defined = &self.template.defined;
        let nodes = defined.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        let mut scope = Scope { variables: vec![(String::new(), dot.clone())], dot };
        self.list(nodes, &mut scope)?;
        self.depth -= 1;
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, scope: &mut Scope) -> Result<Value, String> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, scope)?);
        }
        let value = value.unwrap_or(Value::Nothing);
        if let [name] = &pipe.variables[..] {
            scope.put(pipe.is_assignment, name, value.clone())?;
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &[Operand],
        last: Option<Value>,
        scope: &mut Scope,
    ) -> Result<Value, String> {
        self.step()?;
        let (first, rest) = command.split_first().ok_or("missing value for command")?;
        if let Operand::Function(name) = first {
            return self.function(name, rest, last, scope);
        }
        let has_arguments = !rest.is_empty() || last.is_some();
        match first {
            Operand::Nil => return Err("nil is not a command".into()),
            Operand::Fields(names) | Operand::Variable(_, names) | Operand::Pipe(_, names)
                if has_arguments && !names.is_empty() =>
            {
                let name = names.last().map_or("", String::as_str);
                self.operand(first, scope)?;
                return Err(format!("{name} has arguments but cannot be invoked as function"));
            }
            _ if has_arguments => {
                let value = self.operand(first, scope)?;
                return Err(format!("can't give argument to non-function {}", value.print()));
            }
            _ => {}
        }
        self.operand(first, scope)
    }

    fn function(
        &mut self,
        name: &str,
        operands: &[Operand],
        last: Option<Value>,
        scope: &mut Scope,
    ) -> Result<Value, String> {
        check_count(name, operands.len() + usize::from(last.is_some()))?;
        let mut arguments = Vec::new();
        for operand in operands {
            let value = self.operand(operand, scope)?;
            check_argument(name, arguments.len(), &value)?;
            let decides = match name {
                "and" => !value.is_true(),
                "or" => value.is_true(),
                _ => false,
            };
            if decides {
                return Ok(value);
            }
            arguments.push(value);
        }
        if let Some(last) = last {
            check_argument(name, arguments.len(), &last)?;
            arguments.push(last);
        }
        call(name, &arguments)
    }

    fn operand(&mut self, operand: &Operand, scope: &mut Scope) -> Result<Value, String> {
        self.step()?;
        let along = |value: Value, names: &[String]| {
            names.iter().try_fold(value, |value, name| value.field(name))
        };
        Ok(match operand {
            Operand::Dot => scope.dot.clone(),
            Operand::Nil => Value::Nothing,
            Operand::Bool(is_true) => Value::Bool(*is_true),
            Operand::Whole(number) => Value::Whole(*number),
            Operand::Real(number) => Value::Real(*number),
            Operand::Text(text) => Value::Text(text.clone()),
            Operand::Fields(names) => along(scope.dot.clone(), names)?,
            Operand::Variable(name, names) => along(scope.get(name)?, names)?,
            Operand::Pipe(pipe, names) => along(self.pipe(pipe, scope)?, names)?,
            Operand::Function(name) => self.function(name, &[], None, scope)?,
        })
    }
}

impl Scope {
    fn get(&self, name: &str) -> Result<Value, String> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable: ${name}"))
    }

    fn put(&mut self, is_assignment: bool, name: &str, value: Value) -> Result<(), String> {
        if !is_assignment {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let (_, known) = known.ok_or_else(|| format!("undefined variable: ${name}"))?;
        *known = value;
        Ok(())
    }
}
