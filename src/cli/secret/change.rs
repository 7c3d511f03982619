//! Commands that change something: set, rotate, rollback, prune; and what they would change.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ask::{Ask, Secret, current, part, status};
use crate::app::SystemEntropy;
use crate::domain::id::{Entropy as _, Stream};
use crate::domain::secret::SECRET_LEN_MAX;

/// How often a change is tried anew when somebody else changed the secret in between.
const TRIES: u32 = 8;
/// How long it waits before the second try; before each later one, that much longer.
const PAUSE: Duration = Duration::from_millis(40);

/// Options of `set`.
#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// Name of the secret
    name: String,
    /// The file with the value; `-`, or none, for standard input
    file: Option<PathBuf>,
    /// A label of the secret, as in team=web; may be given several times. The others stay
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Change nothing, and say what would change
    #[arg(long)]
    dry_run: bool,
}

/// Options of `rotate`.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// Name of the secret
    name: String,
    /// Change nothing, and say what would change
    #[arg(long)]
    dry_run: bool,
}

/// Options of `rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// Name of the secret
    name: String,
    /// Number of the version [default: the one before the present one]
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
    /// Change nothing, and say what would change
    #[arg(long)]
    dry_run: bool,
}

/// Options of `prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Name of the secret [default: all secrets]
    name: Option<String>,
    /// So many of the newest versions that nothing uses stay
    /// [default: as many as are kept anyway]
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// Drop only versions that were replaced so long ago, as in 30d or 12h
    #[arg(long, value_name = "TIME", default_value = "0s")]
    unused_for: String,
    /// Change nothing, and say what would change
    #[arg(long)]
    dry_run: bool,
}

impl Set {
    pub(super) fn run(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let value = read_value(self.file.as_deref())?;
        let labels = labels(&self.label)?;
        let send = |known: Option<&Secret>| {
            let mut all = known.map(|secret| secret.spec.labels.clone()).unwrap_or_default();
            all.extend(labels.clone());
            set(ask, (&self.name, known), &all, &value, self.dry_run)
        };
        let path = format!("/secrets/{}", part(&self.name));
        let answer = again(|| {
            let known: Option<Secret> = ask.find(&path)?;
            // Found by the beginning of an id, it is another one than a new secret of that name would be.
            let is_meant = |secret: &Secret| {
                secret.id == self.name || secret.spec.name.eq_ignore_ascii_case(&self.name)
            };
            send(known.filter(is_meant).as_ref())
        })?;
        tell(ask, &self.name, self.dry_run, &answer)
    }
}

fn set(
    ask: &Ask<'_>,
    (name, known): (&str, Option<&Secret>),
    labels: &BTreeMap<String, String>,
    value: &[u8],
    dry_run: bool,
) -> anyhow::Result<String> {
    let name = known.map_or(name, |secret| &secret.spec.name);
    let mut data = Zeroizing::new(String::with_capacity(value.len() * 4 / 3 + 4));
    STANDARD.encode_string(value, &mut data);
    let body = json!({"Name": name, "Labels": labels, "Data": *data});
    let body = Zeroizing::new(body.to_string());
    match known {
        None => ask.post(&format!("/secrets/create?dryRun={dry_run}"), &body),
        Some(secret) => {
            let (id, index) = (&secret.id, secret.version.index);
            ask.post(&format!("/secrets/{id}/update?version={index}&dryRun={dry_run}"), &body)
        }
    }
}

impl Rotate {
    pub(super) fn run(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let answer = again(|| {
            let secret = ask.secret(&self.name)?;
            let query = format!("version={}&dryRun={}", secret.version.index, self.dry_run);
            let before = ask.versions(&secret.id)?;
            let answer = ask.post(&format!("/secrets/{}/rotate?{query}", secret.id), "")?;
            if !self.dry_run && current(&ask.versions(&secret.id)?) == current(&before) {
                eprintln!("{}: the driver has the same value as before", self.name);
            }
            Ok(answer)
        })?;
        tell(ask, &self.name, self.dry_run, &answer)
    }
}

impl Rollback {
    pub(super) fn run(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let to = self.to.map(|to| to.to_string()).unwrap_or_default();
        let roll_back = || {
            let secret = ask.secret(&self.name)?;
            let index = secret.version.index;
            let query = format!("version={index}&to={to}&dryRun={}", self.dry_run);
            ask.post(&format!("/secrets/{}/rollback?{query}", secret.id), "")
        };
        // After somebody else's rollback the version before is the one that both came from.
        let answer = if to.is_empty() { roll_back()? } else { again(roll_back)? };
        tell(ask, &self.name, self.dry_run, &answer)
    }
}

impl Prune {
    /// Says of each secret which versions went, and nothing of those that lost none. One that cannot be pruned
    /// keeps no other from it.
    pub(super) fn run(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let secrets: Vec<Secret> = match &self.name {
            Some(name) => vec![ask.secret(name)?],
            None => ask.get("/secrets")?,
        };
        let (mut told, mut failed) = (Vec::new(), false);
        for secret in secrets {
            match self.prune(ask, &secret) {
                Ok(numbers) if numbers.is_empty() => {}
                Ok(numbers) => {
                    let name = &secret.spec.name;
                    told.push(json!({"Name": name, "ID": secret.id, "Versions": numbers}));
                }
                // Removed meanwhile.
                Err(error) if status(&error) == Some(404) => {}
                Err(error) => {
                    eprintln!("purser: {}: {error:#}", secret.spec.name);
                    failed = true;
                }
            }
        }
        let verb = if self.dry_run { "would drop" } else { "dropped" };
        ask.print(&told, || match told.is_empty() {
            true => "nothing to drop".to_owned(),
            false => told.iter().map(|item| dropped_text(item, verb)).collect(),
        })?;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// The versions of a secret that went, or would go.
    fn prune(&self, ask: &Ask<'_>, secret: &Secret) -> anyhow::Result<Vec<u64>> {
        let keep = self.keep.map(|keep| keep.to_string()).unwrap_or_default();
        let query = format!("keep={keep}&unusedFor={}", part(&self.unused_for));
        let path = format!("/secrets/{}/prune?{query}", secret.id);
        if self.dry_run {
            let forecast: Value =
                serde_json::from_str(&ask.post(&format!("{path}&dryRun=true"), "")?)?;
            let gone = forecast["Changes"][0]["Dropped"].clone();
            return Ok(serde_json::from_value(gone).unwrap_or_default());
        }
        let before = ask.versions(&secret.id)?;
        ask.post(&path, "")?;
        let after = ask.versions(&secret.id)?;
        let is_kept = |number| after.iter().any(|version| version.version == number);
        let numbers = before.iter().map(|version| version.version);
        Ok(numbers.filter(|number| !is_kept(*number)).collect())
    }
}

fn dropped_text(item: &Value, verb: &str) -> String {
    let numbers = item["Versions"].as_array().into_iter().flatten();
    let numbers: Vec<String> = numbers.map(Value::to_string).collect();
    let name = item["Name"].as_str().unwrap_or_default();
    format!("{name}: {verb} version {}\n", numbers.join(", "))
}

/// Says what a new value would do.
pub(super) fn plan(ask: &Ask<'_>, name: &str) -> anyhow::Result<ExitCode> {
    let secret = ask.secret(name)?;
    let has_driver = ask.rotation(&secret.id)?.driver.is_some();
    let answer = match has_driver {
        true => {
            let index = secret.version.index;
            ask.post(&format!("/secrets/{}/rotate?version={index}&dryRun=true", secret.id), "")?
        }
        false => {
            // Whatever the value is, it does the same. It is one that nobody has.
            let mut stand_in = [0; 32];
            SystemEntropy.fill(Stream::Other, &mut stand_in);
            let labels = &secret.spec.labels;
            set(ask, (name, Some(&secret)), labels, &stand_in, true)?
        }
    };
    tell(ask, name, true, &answer)
}

/// Tries a change again while somebody else is quicker.
fn again(mut change: impl FnMut() -> anyhow::Result<String>) -> anyhow::Result<String> {
    for tried in 1..TRIES {
        match change() {
            Err(error) if error.to_string().contains("update out of sequence") => {}
            // Made, or removed, in between.
            Err(error) if matches!(status(&error), Some(409)) => {}
            done => return done,
        }
        std::thread::sleep(PAUSE * tried);
    }
    change()
}

/// Says what was done, or would be.
fn tell(ask: &Ask<'_>, name: &str, is_tried: bool, answer: &str) -> anyhow::Result<ExitCode> {
    if is_tried {
        let forecast: Value = serde_json::from_str(answer)?;
        let read: Forecast = serde_json::from_str(answer)?;
        ask.print(&forecast, || read.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let secret = ask.secret(name)?;
    let version = current(&ask.versions(&secret.id)?);
    let name = &secret.spec.name;
    let done = json!({"ID": secret.id, "Name": name, "Version": version});
    ask.print(&done, || format!("{name}: version {version}"))?;
    Ok(ExitCode::SUCCESS)
}

/// What would change, as far as it is told here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Forecast {
    changes: Vec<ObjectForecast>,
    services: Vec<ServiceForecast>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectForecast {
    kind: String,
    name: String,
    action: String,
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceForecast {
    name: String,
    replaced: u64,
    started: u64,
    stopped: u64,
    waves: Vec<u64>,
    order: String,
    delay: i64,
    waits: Option<String>,
}

impl Forecast {
    fn text(&self) -> String {
        let mut text = String::new();
        for change in self.changes.iter().filter(|change| change.kind != "service") {
            let ObjectForecast { kind, name, action, version } = change;
            let version = version.map(|version| format!(", version {version}"));
            text += &format!("{action} {kind} {name}{}\n", version.unwrap_or_default());
        }
        for service in &self.services {
            text += &service.text();
        }
        if text.is_empty() { "nothing would change".to_owned() } else { text }
    }
}

impl ServiceForecast {
    fn text(&self) -> String {
        let ServiceForecast { name, replaced, started, stopped, .. } = self;
        let why = self.waits.as_deref().map(|waits| match waits {
            "manual" => "it takes new values with its next update (purser.rotate=manual)",
            "pinned" => "a label keeps it to a version",
            "job" => "it is a job, and takes new values when it runs again",
            _ => "its last update is paused",
        });
        if let Some(why) = why {
            return format!("service {name} stays: {why}\n");
        }
        let mut parts = Vec::new();
        if *replaced > 0 {
            parts.push(self.waves_text());
        }
        if *started > 0 {
            parts.push(format!("{started} tasks more"));
        }
        if *stopped > 0 {
            parts.push(format!("{stopped} tasks stopped"));
        }
        if parts.is_empty() {
            parts.push("no task of it runs".to_owned());
        }
        format!("service {name}: {}\n", parts.join(", "))
    }

    fn waves_text(&self) -> String {
        let ServiceForecast { replaced, waves, order, delay, .. } = self;
        let sizes: Vec<String> = waves.iter().take(12).map(u64::to_string).collect();
        let more = if waves.len() > 12 { ", …" } else { "" };
        let least = if waves.iter().sum::<u64>() < *replaced { "more than " } else { "" };
        let count = waves.len();
        let pause = match delay {
            0 => String::new(),
            delay => format!(", {} ms between them", delay / 1_000_000),
        };
        let sizes = sizes.join(", ");
        format!("{replaced} tasks in {least}{count} waves of {sizes}{more} ({order}{pause})")
    }
}

/// The value: all that there is on standard input, or in a file.
fn read_value(file: Option<&Path>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::new());
    let most = SECRET_LEN_MAX as u64 + 1;
    match file.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let opened = std::fs::File::open(path).with_context(|| path.display().to_string())?;
            opened.take(most).read_to_end(&mut value)?;
        }
        None => {
            let input = std::io::stdin();
            if input.is_terminal() {
                eprintln!("The value comes from standard input; end it with Ctrl-D.");
            }
            input.lock().take(most).read_to_end(&mut value)?;
        }
    }
    if value.is_empty() {
        bail!("the value is empty");
    }
    Ok(value)
}

fn labels(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let read = |text: &String| match text.split_once('=') {
        Some(("", _)) => bail!("a label is KEY=VALUE, not {text:?}"),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Ok((text.clone(), String::new())),
    };
    texts.iter().map(read).collect()
}
