//! Judges connections straight from the resources, one at a time: slow, and written from the semantics, not from the
//! compiler.

use std::net::IpAddr;

use margay_api::Labels;
use margay_api::kinds::{Action, EntityRule, NetworkPolicySpec, PolicyType, Port, Rule, WorkloadEndpoint};
use margay_api::selector::Selector;
use margay_felix_core::policy::Direction;
use margay_net::{Cidr, Family};

use crate::world::World;

/// A new connection as a pod sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    pub(crate) direction: Direction,
    pub(crate) peer: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

enum Outcome {
    Allow,
    Deny,
    Pass,
}

/// Tells whether the pod's policies and profiles let the connection pass.
pub(crate) fn allows(world: &World, pod: &WorkloadEndpoint, connection: &Connection) -> bool {
    let namespace = pod.namespace().unwrap();
    let own = labels(world, pod);
    let mut policies: Vec<_> = world
        .policies
        .iter()
        .filter(|((of, _), _)| of == namespace)
        .map(|((_, name), policy)| (name, policy))
        .collect();
    policies.sort_by(|(a_name, a), (b_name, b)| {
        let order = |spec: &NetworkPolicySpec| match spec.tier.as_deref() {
            None | Some("default") => spec.order.unwrap_or(f64::INFINITY),
            Some(_) => f64::NEG_INFINITY,
        };
        order(&a.spec).partial_cmp(&order(&b.spec)).unwrap().then(a_name.cmp(b_name))
    });
    let isolates = match connection.direction {
        Direction::Ingress => PolicyType::Ingress,
        Direction::Egress => PolicyType::Egress,
    };
    let mut isolated = false;
    let mut passed = false;
    'policies: for (_, policy) in policies {
        let spec = &policy.spec;
        let account = rewritten(&spec.service_account_selector, "pcsa.", "projectcalico.org/serviceaccount");
        let selector = spec.selector.parse::<Selector>();
        let usable = selector.is_ok() && account.is_ok() && spec.tier.as_deref().is_none_or(|tier| tier == "default");
        let selected =
            selector.is_ok_and(|selector| selector.matches_labels(&own)) || spec.selector.parse::<Selector>().is_err();
        let of_account = account.is_ok_and(|selector| selector.is_none_or(|selector| selector.matches_labels(&own)));
        if !selected || !of_account || !spec.types().contains(&isolates) {
            continue;
        }
        isolated = true;
        let rules = match connection.direction {
            Direction::Ingress => &spec.ingress,
            Direction::Egress => &spec.egress,
        };
        if !usable && rules.iter().any(|rule| matches!(rule.action, Action::Deny | Action::Pass)) {
            return false;
        }
        for rule in rules.iter().filter(|_| usable) {
            match outcome(world, Some(namespace), pod, rule, connection) {
                Some(Outcome::Allow) => return true,
                Some(Outcome::Deny) => return false,
                Some(Outcome::Pass) => {
                    passed = true;
                    break 'policies;
                }
                None => {}
            }
        }
    }
    if isolated && !passed {
        return false;
    }
    for name in &pod.spec.profiles {
        let Some(profile) = world.profiles.get(name) else { return false };
        let rules = match connection.direction {
            Direction::Ingress => &profile.spec.ingress,
            Direction::Egress => &profile.spec.egress,
        };
        for rule in rules {
            match outcome(world, None, pod, rule, connection) {
                Some(Outcome::Allow) => return true,
                Some(_) => return false,
                None => {}
            }
        }
    }
    false
}

/// An endpoint's labels: what Calico sets, then its own, then its profiles', the first profile first.
pub(crate) fn labels(world: &World, pod: &WorkloadEndpoint) -> Labels {
    let mut labels = Labels::new();
    for profile in pod.spec.profiles.iter().rev().filter_map(|name| world.profiles.get(name)) {
        labels.extend(profile.spec.labels_to_apply.clone());
    }
    labels.extend(pod.metadata.labels.clone());
    labels.insert("projectcalico.org/namespace".into(), pod.namespace().unwrap().into());
    for (key, value) in [("orchestrator", &pod.spec.orchestrator), ("serviceaccount", &pod.spec.service_account_name)] {
        if !value.is_empty() {
            labels.insert(format!("projectcalico.org/{key}"), value.clone());
        }
    }
    labels
}

fn outcome(
    world: &World,
    namespace: Option<&str>,
    pod: &WorkloadEndpoint,
    rule: &Rule,
    connection: &Connection,
) -> Option<Outcome> {
    let (peer_side, own_side) = match connection.direction {
        Direction::Ingress => (&rule.source, &rule.destination),
        Direction::Egress => (&rule.destination, &rule.source),
    };
    let has_ports = rule.protocol.as_ref().is_some_and(|protocol| protocol.has_ports());
    let own_addresses = || pod.spec.ip_networks.iter().map(|network| network.addr());
    // What the tables can't express: source ports, and the pod's own addresses where they differ.
    let split = Family::ALL.iter().any(|family| {
        let mut inside = own_addresses().filter(|own| Family::of(*own) == *family).map(|own| in_nets(own_side, own));
        let first = inside.next();
        inside.any(|other| Some(other) != first)
    });
    let selectors = [selector_of(namespace, peer_side), selector_of(namespace, own_side)];
    let own_is_selected = match &selectors[1] {
        Ok(Some(selector)) => selector.matches_labels(&labels(world, pod)),
        _ => true,
    };
    let split = split && own_is_selected;
    let broken = !rule.source.ports.is_empty()
        || selectors.iter().any(Result::is_err)
        || (!has_ports && !rule.destination.ports.is_empty());
    let closed = broken || split;
    if closed && rule.action == Action::Allow {
        return None;
    }

    let family = Family::of(connection.peer);
    if rule.ip_version.is_some_and(|version| (version == 4) != (family == Family::V4)) {
        return None;
    }
    if rule.protocol.as_ref().is_some_and(|protocol| protocol.number() != connection.protocol) {
        return None;
    }
    let own = own_addresses().find(|own| Family::of(*own) == family);
    if !own_is_selected || (!split && own.is_some_and(|own| !in_nets(own_side, own))) {
        return None;
    }
    if !in_nets(peer_side, connection.peer) {
        return None;
    }
    let pods = world.endpoints.values().filter(|other| other.spec.ip_networks.contains(&Cidr::host(connection.peer)));
    let selected: Vec<&WorkloadEndpoint> = match &selectors[0] {
        Ok(Some(selector)) => {
            let selected: Vec<_> = pods.filter(|other| selector.matches_labels(&labels(world, other))).collect();
            if selected.is_empty() {
                return None;
            }
            selected
        }
        _ => pods.collect(),
    };
    let declares = |pod: &WorkloadEndpoint, name: &str| {
        pod.spec.ports.iter().any(|port| {
            port.name == name && port.protocol.number() == connection.protocol && port.port == connection.port
        })
    };
    let ports: &[Port] = if has_ports { &rule.destination.ports } else { &[] };
    let port_matches = ports.is_empty()
        || ports.iter().any(|port| match port {
            Port::Number(number) => *number == connection.port,
            Port::Range(first, last) => (*first..=*last).contains(&connection.port),
            Port::Named(name) => match connection.direction {
                Direction::Ingress => declares(pod, name),
                Direction::Egress => selected.iter().any(|pod| declares(pod, name)),
            },
        });
    if !port_matches {
        return None;
    }
    match rule.action {
        Action::Allow => Some(Outcome::Allow),
        Action::Deny => Some(Outcome::Deny),
        Action::Pass => Some(if closed { Outcome::Deny } else { Outcome::Pass }),
        Action::Log => None,
    }
}

fn in_nets(entity: &EntityRule, address: IpAddr) -> bool {
    let (nets, not_nets) = (&entity.nets, &entity.not_nets);
    let family = |list: &[Cidr]| list.iter().any(|net| net.family() == Family::of(address));
    let contains = |list: &[Cidr]| list.iter().any(|net| net.contains(address));
    match (nets.is_empty(), not_nets.is_empty()) {
        (true, true) => true,
        (true, false) => family(not_nets) && !contains(not_nets),
        (false, _) => contains(nets) && !contains(not_nets),
    }
}

fn selector_of(namespace: Option<&str>, entity: &EntityRule) -> Result<Option<Selector>, ()> {
    let of_namespace = match (entity.namespace_selector.as_str(), namespace) {
        ("", Some(namespace)) if !entity.selector.is_empty() => {
            Some(format!("projectcalico.org/namespace == '{namespace}'").parse().unwrap())
        }
        ("", _) => None,
        (text, _) => rewritten(text, "pcns.", "projectcalico.org/namespace")?,
    };
    let own = match entity.selector.as_str() {
        "" => None,
        text => Some(text.parse::<Selector>().map_err(drop)?),
    };
    let both: Vec<Selector> = of_namespace.into_iter().chain(own).collect();
    Ok((!both.is_empty()).then_some(Selector::And(both)))
}

fn rewritten(text: &str, prefix: &str, presence: &str) -> Result<Option<Selector>, ()> {
    match text {
        "" => Ok(None),
        "all()" => Ok(Some(Selector::Has(presence.into()))),
        "global()" => Ok(Some(Selector::Not(Box::new(Selector::Has(presence.into()))))),
        text => Ok(Some(text.parse::<Selector>().map_err(drop)?.with_keys(&|key| format!("{prefix}{key}")))),
    }
}
