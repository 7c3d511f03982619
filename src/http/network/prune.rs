//! `/networks/prune`: removes what nobody uses, of the swarm's networks and of those of the engine of
//! this host.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::has_labels;
use crate::domain::filter::Filters;
use crate::domain::intent::Intent;
use crate::domain::network::Network;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Timestamp;
use crate::http::context::{Access, Api, ApiInner, Asker};
use crate::http::error::{ErrorResponse, Failure, json};
use crate::http::passthrough;
use crate::http::query::Query;
use crate::manager::{Right, Verb};

/// What was removed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(in crate::http) struct NetworkPruneResponse {
    /// Names; null when there are none.
    networks_deleted: Option<Vec<String>>,
}

/// Delete unused networks
#[utoipa::path(post, path = "/networks/prune", tag = "Network", operation_id = "NetworkPrune",
    params(("filters" = Option<String>, Query, description = "JSON map of `label`, `label!`, `until` to values; `until` is RFC 3339, Unix seconds, or a duration before now")),
    responses((status = 200, body = NetworkPruneResponse), (status = 400, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(in crate::http) async fn prune(
    State(api): State<Api>,
    access: Access,
    Asker(actor): Asker,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    if view.cluster().is_none() {
        return Ok(passthrough::fallback(&api, request).await);
    }
    let filters = query.filters(&["label", "label!", "until"])?;
    let until = until(&filters, api.manager.clock().now())?;
    let mut deleted = Vec::new();
    if api.engine.is_some() && access.check_at_all(Verb::Use, Right::Engine).is_ok() {
        passthrough::tell_of_use(&api, &actor, format!("POST {}", request.uri().path())).await?;
        deleted = prune_engine(&api, query.text("filters")).await?;
    }
    // That of the routing mesh goes only when it is named.
    let candidates = view.networks().filter(|network| {
        network.is_shown() && !network.spec.ingress && passes(&filters, until, network)
    });
    for network in candidates {
        let intent = Intent::RemoveNetwork { id: network.id };
        match api.manager.submit(actor.clone(), intent).await {
            Ok(_) => deleted.push(network.spec.name.clone()),
            // In use, gone meanwhile, or of those whom the policy gives it to.
            Err(refusal)
                if matches!(
                    refusal.reason,
                    Reason::Precondition | Reason::NotFound | Reason::Forbidden
                ) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let networks_deleted = Some(deleted).filter(|deleted| !deleted.is_empty());
    Ok(json(StatusCode::OK, &NetworkPruneResponse { networks_deleted }))
}

/// Has the engine of this host remove its own, and gives their names.
async fn prune_engine(api: &ApiInner, filters: &str) -> Result<Vec<String>, Failure> {
    let Some(engine) = &api.engine else { return Ok(Vec::new()) };
    let encoded =
        percent_encoding::utf8_percent_encode(filters, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("/networks/prune?filters={encoded}");
    let answer = engine.client().json("POST", &path, None).await;
    let answer =
        answer.map_err(|error| Failure(Refusal::front(Reason::Unavailable, error.to_string())))?;
    let names = answer.get("NetworksDeleted").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    Ok(names.map(str::to_owned).collect())
}

fn passes(filters: &Filters, until: Option<Timestamp>, network: &Network) -> bool {
    let Network { meta, spec, .. } = network;
    until.is_none_or(|until| meta.created_at <= until)
        && has_labels(filters.values("label"), spec)
        && (filters.values("label!").is_empty() || !has_labels(filters.values("label!"), spec))
}

/// The moment after which nothing was made that may go.
fn until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let text = match filters.values("until") {
        [] => return Ok(None),
        [text] => text,
        _ => return Err(Failure::invalid("more than one until filter specified")),
    };
    let before_now = |span: Duration| {
        let nanos = i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
        Timestamp::from_unix_nanos(now.unix_nanos().saturating_sub(nanos))
    };
    let seconds = || text.parse::<i64>().ok();
    let moment = Timestamp::parse(text)
        .or_else(|| Some(Timestamp::from_unix_nanos(i128::from(seconds()?) * 1_000_000_000)))
        .or_else(|| duration(text).map(before_now));
    moment.map(Some).ok_or_else(|| Failure::invalid(format!("invalid filter 'until={text}'")))
}

/// `1h30m`, `10s` and the like; `None` for anything else.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit = match unit {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        sum = sum.checked_add(unit.checked_mul(number.parse().ok()?)?)?;
        rest = tail;
    }
    Some(sum).filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("24h", 86_400), ("1h30m", 5_400), ("10s", 10), ("2000ms", 2)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "10", "1x", "1h2", "-1h", "1.5h", "99999999999h", "4000000000h9é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn until_is_a_moment_or_a_time_before_now() {
        let now = Timestamp::parse("2026-01-02T00:00:00Z").expect("a moment");
        let of = |values: &str| {
            let filters = Filters::parse(Some(&format!(r#"{{"until":{values}}}"#)));
            until(&filters.expect("filters"), now)
        };
        let day_before = Timestamp::parse("2026-01-01T00:00:00Z");
        for value in [r#"["24h"]"#, r#"["2026-01-01T00:00:00Z"]"#, r#"["1767225600"]"#] {
            assert_eq!(of(value).ok().flatten(), day_before, "{value}");
        }
        assert_eq!(of("[]").ok(), Some(None));
        assert!(of(r#"["soon"]"#).is_err() && of(r#"["1h","2h"]"#).is_err());
    }
}
