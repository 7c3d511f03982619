//! `purser openapi`: the API document, as it is kept in `openapi/openapi.json`.

pub(super) fn run() -> anyhow::Result<()> {
    println!("{}", crate::http::document().to_pretty_json()?);
    Ok(())
}
