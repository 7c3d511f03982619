//! Commands that show: the versions of a secret, and who has which.

use std::process::ExitCode;

use serde_json::json;

use super::ask::{Ask, Consumer, current, table};

/// Which secret.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// Name of the secret
    pub name: String,
}

impl Named {
    pub(super) fn history(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let secret = ask.secret(&self.name)?;
        let (versions, rotation) = (ask.versions(&secret.id)?, ask.rotation(&secret.id)?);
        let told = json!({
            "ID": secret.id, "Name": secret.spec.name, "Versions": versions, "Rotation": rotation,
        });
        ask.print(&told, || {
            let mut rows = vec![row(["VERSION", "CREATED", "CURRENT"])];
            rows.extend(versions.iter().rev().map(|version| {
                let is_current = if version.current { "yes" } else { "" };
                row([&version.version.to_string(), &version.created_at, is_current])
            }));
            let mut text = table(&rows);
            if let Some(driver) = &rotation.driver {
                let next = rotation.next_at.as_ref();
                let next = next.map(|at| format!(", the next one at {at}")).unwrap_or_default();
                text += &format!("made by the driver {driver}{next}\n");
            }
            if let Some(failure) = &rotation.failure {
                let (at, why, since) = (&failure.at, &failure.message, &rotation.newest_at);
                text +=
                    &format!("the last try, at {at}, failed: {why}\nthe value of {since} stays\n");
            }
            text
        })?;
        Ok(ExitCode::SUCCESS)
    }

    pub(super) fn consumers(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let secret = ask.secret(&self.name)?;
        let consumers = ask.consumers(&secret.id)?;
        let newest = current(&ask.versions(&secret.id)?);
        ask.print(&consumers, || consumers_text(&consumers, newest))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn consumers_text(consumers: &[Consumer], newest: u64) -> String {
    let mut rows = vec![row(["SERVICE", "FOLLOWS", "WANTED", "TASK", "NODE", "VERSION", "STATE"])];
    for consumer in consumers {
        let wanted = consumer.wanted.map_or("none".to_owned(), |wanted| wanted.to_string());
        let follows = consumer.follows.as_deref().unwrap_or("");
        let named = [&consumer.service_name, follows, &wanted];
        if consumer.tasks.is_empty() {
            rows.push(row(named));
        }
        for task in &consumer.tasks {
            let (version, node) = (task.version.to_string(), task.node_id.as_deref().unwrap_or(""));
            let [name, follows, wanted] = named;
            rows.push(row([name, follows, wanted, &task.id, node, &version, &task.state]));
        }
    }
    match consumers.is_empty() {
        true => format!("nobody uses it; the current version is {newest}"),
        false => table(&rows),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
