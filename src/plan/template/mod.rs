//! Templates in the environment, the host name, the mounts and the payloads of a task. The node expands
//! them, with Go's `text/template`; here they are parsed and expanded on trial, so that a mistake shows
//! when the service is made and not in every task.
//!
//! ```text
//!   text ──▶ lex ──▶ parse ──▶ run, with values as a task would have them ──▶ text
//! ```
//!
//! The language is that of <https://pkg.go.dev/text/template>, with a missing key of a map as an error,
//! and refusals are in its words. Left out: complex numbers, and the widths of `printf`, which change
//! what a text becomes and never whether it is one.

mod func;
mod lex;
mod parse;
mod run;
mod value;

use std::collections::BTreeMap;

use self::func::Functions;
use self::value::Value;

/// Most steps of one expansion: a loop within a loop over labels, and not one of ten within each other.
const STEPS_MAX: usize = 100_000;

/// How deep a text may nest: parentheses, branches, templates within each other.
const DEPTH_MAX: usize = 64;

/// Most bytes that one expansion may write: as many as a request may have.
const OUTPUT_MAX: usize = 4 << 20;

/// What a task says of itself in its templates.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    /// Id of the service.
    pub service_id: &'a str,
    /// Name of the service.
    pub service_name: &'a str,
    /// Labels of the service.
    pub service_labels: &'a BTreeMap<String, String>,
    /// The number of the task within the service; 0 for one of a global service.
    pub slot: u64,
}

impl Values<'_> {
    fn context(&self) -> Value {
        let text = |text: &str| Value::Text(text.to_owned());
        let platform = [("Architecture", text("architecture")), ("OS", text("os"))];
        let platform = Value::object("template.Platform", platform);
        let service = Value::object(
            "struct { ID string; Name string; Labels map[string]string }",
            [
                ("ID", text(self.service_id)),
                ("Name", text(self.service_name)),
                ("Labels", Value::Map(self.service_labels.clone())),
            ],
        );
        let node = Value::object(
            "struct { ID string; Hostname string; Platform template.Platform }",
            [("ID", text("nodeid")), ("Hostname", text("nodeHostname")), ("Platform", platform)],
        );
        // A task of a global service goes by its node.
        let slot = match self.slot {
            0 => "nodeid".to_owned(),
            slot => slot.to_string(),
        };
        let task = Value::object(
            "struct { ID string; Name string; Slot string }",
            [
                ("ID", text("taskid")),
                ("Name", Value::Text(format!("{}.{slot}.taskid", self.service_name))),
                ("Slot", Value::Text(slot)),
            ],
        );
        Value::object("*template.Context", [("Service", service), ("Node", node), ("Task", task)])
    }
}

/// Why a text is no template, and the line that shows it.
#[derive(Debug)]
struct Fault {
    line: usize,
    message: String,
}

impl Fault {
    fn new(line: usize, message: impl Into<String>) -> Fault {
        Fault { line, message: message.into() }
    }
}

/// A text of a container's spec that a node expands.
#[derive(Debug)]
pub struct Template {
    parsed: parse::Template,
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Go.
    pub fn parse(text: &str) -> Result<Template, String> {
        match parse::parse(text, Functions::OfSpecs) {
            Ok(parsed) => Ok(Template { parsed }),
            Err(Fault { line, message }) => Err(format!("template: expansion:{line}: {message}")),
        }
    }

    /// What it becomes with these values, and how many steps that took.
    ///
    /// # Errors
    /// What a node could not evaluate, in the words of Go; that it takes more than a fixed number of
    /// steps.
    pub fn expand(&self, values: &Values<'_>) -> Result<(String, usize), String> {
        run::run(&self.parsed, values.context())
            .map_err(|message| format!("template: expansion: {message}"))
    }
}

/// Parses the payload of a secret or config that is a template. What it grants and which task it is for
/// is not known, so that it is not expanded.
///
/// # Errors
/// Where it is wrong, and nothing of what it holds.
pub fn check_payload(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the template is not text".to_owned())?;
    let parsed = parse::parse(text, Functions::OfPayloads);
    parsed.map(|_| ()).map_err(|fault| format!("the template is broken in line {}", fault.line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(text: &str) -> Result<String, String> {
        let labels = BTreeMap::from([("a".to_owned(), "v".to_owned())]);
        let values = Values {
            service_id: "serviceid",
            service_name: "web",
            service_labels: &labels,
            slot: 2,
        };
        Ok(Template::parse(text)?.expand(&values)?.0)
    }

    #[test]
    fn a_text_becomes_what_a_node_would_make_of_it() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{}}", "{}}"),
            ("{{.Node.Hostname}}", "nodeHostname"),
            ("{{with .Node}}{{.Hostname}}{{end}}", "nodeHostname"),
            ("{{ .Service.Name }}-{{.Task.Slot}}", "web-2"),
            (r#"{{if eq .Task.Slot "2"}}two{{else}}other{{end}}"#, "two"),
            (r#"{{if eq .Task.Slot "1"}}one{{else if eq .Task.Slot "2"}}two{{end}}"#, "two"),
            (r#"{{index .Service.Labels "a"}}{{.Service.Labels.a}}"#, "vv"),
            ("{{range $k, $v := .Service.Labels}}{{$k}}={{$v}};{{end}}", "a=v;"),
            ("{{range .Service.Labels}}{{.}}{{break}}{{end}}", "v"),
            (r#"{{join "-" "a" "b"}}{{printf "%s:%d%%" "x" 3}}"#, "a-bx:3%"),
            (r#"{{define "x"}}<{{.}}>{{end}}{{template "x" .Task.Slot}}"#, "<2>"),
            (r#"{{$x := "a"}}{{$x = "b"}}{{$x}}"#, "b"),
            ("a {{- /* nothing */ -}} b", "ab"),
            ("{{(.Node).ID}}{{len `abc`}}{{'a'}}{{0x1F}}", "nodeid39731"),
            (r#"{{or "" "x"}}{{and 1 0}}{{not true}}{{"<" | html}}"#, "x0false&lt;"),
            (r#"{{"\x41\u00e4\n" | printf "%q"}}"#, "\"Aä\\n\""),
        ] {
            assert_eq!(tried(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_a_node_could_not_expand_is_named() {
        for (text, expected) in [
            ("{{if}}", "1: missing value for if"),
            ("{{if .Node}}x", "1: unexpected EOF"),
            ("a\n{{end}}", "2: unexpected {{end}}"),
            ("{{nope .Node}}", "1: function \"nope\" not defined"),
            ("{{secret `a`}}", "1: function \"secret\" not defined"),
            ("{{.Nope}}", "can't evaluate field Nope in type *template.Context"),
            ("{{.Node.ID.X}}", "can't evaluate field X in type string"),
            ("{{.Service.Labels.b}}", "map has no entry for key \"b\""),
            ("{{if eq .Task.Slot 1}}{{end}}", "incompatible types for comparison"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{", "1: unclosed action"),
            ("{{}}", "1: missing value for command"),
            ("{{\"a}}", "1: unterminated quoted string"),
            ("{{template \"x\"}}", "template \"x\" not defined"),
            ("{{range 3}}{{end}}", "range can't iterate over 3"),
            ("{{break}}", "1: {{break}} outside {{range}}"),
            ("{{\"a\" | 3}}", "1: non executable command in pipeline stage 2"),
        ] {
            let said = tried(text).expect_err(text);
            assert!(said.ends_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn no_text_takes_long_or_deep() {
        let open = "{{if true}}".repeat(10_000);
        assert!(tried(&open).is_err());
        assert!(tried(&format!("{{{{{}", "(".repeat(100_000))).is_err());
        assert!(tried(&format!("{{{{if true}}}}{}", "{{else if true}}".repeat(10_000))).is_err());
        assert!(tried(r#"{{define "x"}}{{template "x"}}{{end}}{{template "x"}}"#).is_err());
        let twice = |(one, next)| {
            format!(
                r#"{{{{define "{one}"}}}}{{{{template "{next}"}}}}{{{{template "{next}"}}}}{{{{end}}}}"#
            )
        };
        let chain: String = ('a'..='y').zip('b'..='z').map(twice).collect();
        let text = format!(r#"{chain}{{{{define "z"}}}}x{{{{end}}}}{{{{template "a"}}}}"#);
        assert!(tried(&text).expect_err("2^25 words").contains("too long"));
    }

    #[test]
    fn a_payload_is_a_template_or_refused_without_a_word_of_it() {
        assert_eq!(check_payload(b"{{secret \"s\"}}{{env \"A\"}}{{config \"c\"}}"), Ok(()));
        let said = check_payload(b"one\nhunter2 {{hunter3}}").expect_err("no function");
        assert_eq!(said, "the template is broken in line 2");
        assert!(check_payload(b"\xff").is_err());
    }
}
