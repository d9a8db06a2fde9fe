//! From one valid configuration to what serves it.

use std::sync::Arc;

use super::AppError;
use crate::{
    admin::UpstreamAbout,
    clock::Clock,
    config::{CredentialUse, UpstreamConfig},
    policy::Policy,
    proxy::{TokensOf, Upstream, UpstreamParams, metrics::UpstreamLabels, pace::Pacer},
    token::{BrokerGeneration, Brokers, Credential},
};

/// The upstreams of one configuration, their brokers not yet in force. Every policy is there before the first token is asked
/// for. What an LMS has said of its quota is kept from the `former` ones.
///
/// # Errors
///
/// [`AppError::Policy`]; then nothing has happened.
pub(super) fn open(
    upstreams: Vec<UpstreamConfig>,
    brokers: &Brokers,
    former: &[Arc<Upstream>],
    clock: &Arc<dyn Clock>,
) -> Result<(Vec<Arc<Upstream>>, BrokerGeneration), AppError> {
    let policy = |upstream: &UpstreamConfig| {
        let name = &upstream.params.name;
        Policy::build(&upstream.policy).map_err(|_problems| AppError::Policy(Arc::clone(name)))
    };
    let policies = upstreams
        .iter()
        .map(policy)
        .collect::<Result<Vec<_>, _>>()?;
    let mut generation = brokers.generation();
    let mut tokens_of = |CredentialUse { credential, ask }| TokensOf {
        credential: Arc::clone(&credential.name),
        broker: generation.broker(&credential, ask),
    };
    let open = |(upstream, policy): (UpstreamConfig, Policy)| {
        Arc::new(Upstream {
            pacer: pacer(&upstream.params, former, clock),
            params: upstream.params,
            policy,
            tokens: tokens_of(upstream.tokens),
            route_tokens: upstream
                .route_tokens
                .into_iter()
                .map(&mut tokens_of)
                .collect(),
        })
    };
    let upstreams = upstreams.into_iter().zip(policies).map(open).collect();
    Ok((upstreams, generation))
}

fn pacer(
    params: &UpstreamParams,
    former: &[Arc<Upstream>],
    clock: &Arc<dyn Clock>,
) -> Option<Arc<Pacer>> {
    if !params.pace {
        return None;
    }
    let same = former.iter().find(|upstream| {
        let other = &upstream.params;
        other.name == params.name && other.dialer.origin == params.dialer.origin
    });
    let kept = same.and_then(|upstream| upstream.pacer.clone());
    Some(kept.unwrap_or_else(|| Arc::new(Pacer::new(Arc::clone(clock)))))
}

/// What metrics need to know of the upstreams.
pub(super) fn labels(upstreams: &[Arc<Upstream>]) -> Vec<UpstreamLabels<'_>> {
    upstreams
        .iter()
        .map(|upstream| UpstreamLabels {
            name: &upstream.params.name,
            mode: upstream.policy.mode(),
            routes: upstream.policy.labels(),
            explicit: upstream.policy.explicit_labels(),
            paces: upstream.params.pace,
        })
        .collect()
}

/// What the admin sockets say of the upstreams.
pub(super) fn describe(upstreams: &[UpstreamConfig]) -> Vec<UpstreamAbout> {
    let describe = |upstream: &UpstreamConfig| {
        let origin = &upstream.params.dialer.origin;
        let scheme = if origin.tls { "https" } else { "http" };
        UpstreamAbout {
            name: upstream.params.name.to_string(),
            base_url: format!("{scheme}://{}", origin.authority()),
            credential: upstream.tokens.credential.name.to_string(),
            route_credentials: upstream
                .route_tokens
                .iter()
                .map(|tokens| tokens.credential.name.to_string())
                .collect(),
            mode: upstream.policy.mode.as_str(),
        }
    };
    upstreams.iter().map(describe).collect()
}

/// `next`, with what is the same in `former` taken from there: what is kept of a client (the looks at its published keys) goes
/// on to be known of it.
pub(super) fn keep(
    former: &[Arc<Credential>],
    next: &mut [Arc<Credential>],
    upstreams: &mut [UpstreamConfig],
) {
    for credential in next {
        let named = former.iter().find(|other| other.name == credential.name);
        let Some(same) = named else { continue };
        if same.source != credential.source {
            credential.follow(same);
            continue;
        }
        let kept = if **same == **credential {
            Arc::clone(same)
        } else {
            Arc::new(Credential {
                source: same.source.clone(),
                ..Credential::clone(credential)
            })
        };
        let uses = upstreams.iter_mut().flat_map(|upstream| {
            let of_routes = &mut upstream.route_tokens;
            std::iter::once(&mut upstream.tokens).chain(of_routes)
        });
        for used in uses.filter(|used| Arc::ptr_eq(&used.credential, credential)) {
            used.credential = Arc::clone(&kept);
        }
        *credential = kept;
    }
}
