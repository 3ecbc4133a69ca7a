//! Service and EndpointSlice: which of a service's addresses each node announces.

use anyhow::{Result, ensure};
use margay_lab::isolation;
use margay_tests::live::{Effect, Live};

use super::{NODES, ROUTERS, from_both};

const MOVES: Effect = Effect::moves(&["10.96.0.0/12", "192.0.2.0/24", "198.51.100.0/24", "fd96::/108"]);
const RANGES: [&str; 3] = [
    "serviceClusterIPs: [{cidr: 10.96.0.0/12}, {cidr: \"fd96::/108\"}]",
    "serviceExternalIPs: [{cidr: 192.0.2.0/24}]",
    "serviceLoadBalancerIPs: [{cidr: 198.51.100.0/24}]",
];
const EACH_V4: [&str; 3] = ["10.96.0.7/32", "192.0.2.7/32", "198.51.100.7/32"];

fn service(policy: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{type: LoadBalancer, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, \"fd96::7\"], \
         externalIPs: [192.0.2.7, 203.0.113.7], externalTrafficPolicy: {policy}, ports: [{{port: 80}}]}}\n\
         status: {{loadBalancer: {{ingress: [{{ip: 198.51.100.7}}, {{ip: 203.0.113.8}}]}}}}\n"
    )
}

/// A slice of a family with an endpoint on each node, ready there or not.
fn slice(family: &str, address: &str, ready: [bool; 2]) -> String {
    let endpoints: Vec<String> = NODES
        .iter()
        .zip(ready)
        .map(|(node, ready)| {
            format!("{{addresses: [\"{address}\"], nodeName: {node}, conditions: {{ready: {ready}}}}}")
        })
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-{}, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: {family}\nendpoints: [{}]\n",
        family.to_lowercase(),
        endpoints.join(", ")
    )
}

fn slices(v4: [bool; 2], v6: [bool; 2]) -> String {
    format!("{}---\n{}", slice("IPv4", "10.65.0.9", v4), slice("IPv6", "fd65::9", v6))
}

/// Fails unless of these prefixes each node announces those alone that are said to be its.
fn announce(live: &Live, prefixes: &[&str], nodes: [bool; 2]) -> Result<()> {
    for (node, wanted) in NODES.iter().zip(nodes) {
        for (router, prefix) in ROUTERS.iter().flat_map(|router| prefixes.iter().map(move |prefix| (router, prefix))) {
            match wanted {
                true => drop(live.route(router, node, prefix)?),
                false => live.no_route(router, node, prefix)?,
            }
        }
    }
    Ok(())
}

#[test]
fn an_edit_of_a_service_moves_its_prefixes_and_resets_nothing() {
    isolation::isolated("services::an_edit_of_a_service_moves_its_prefixes_and_resets_nothing", || {
        let mut live = Live::start()?;
        live.configure(&RANGES, &MOVES, |live| {
            from_both(live, "10.96.0.0/12")?;
            from_both(live, "192.0.2.0/24")
        })?;
        let local = format!("{}---\n{}", service("Local"), slices([true, false], [false, true]));
        live.edit("a service with externalTrafficPolicy Local", &local, &MOVES, |live| {
            announce(live, &EACH_V4, [true, false])?;
            announce(live, &["fd96::7/128"], [false, true])?;
            // Outside of the ranges.
            announce(live, &["203.0.113.7/32", "203.0.113.8/32"], [false, false])
        })?;
        live.edit("endpoints of the other node", &slices([false, true], [false, true]), &MOVES, |live| {
            announce(live, &EACH_V4, [false, true])
        })?;
        live.edit("endpoints of both", &slices([true, true], [true, false]), &MOVES, |live| {
            announce(live, &EACH_V4, [true, true])?;
            announce(live, &["fd96::7/128"], [true, false])
        })?;
        live.edit("externalTrafficPolicy Cluster", &service("Cluster"), &MOVES, |live| {
            announce(live, &EACH_V4, [false, false])?;
            from_both(live, "198.51.100.0/24")
        })?;
        let apart = [&RANGES[..], &["serviceLoadBalancerAggregation: Disabled"]].concat();
        live.configure(&apart, &MOVES, |live| {
            announce(live, &["198.51.100.7/32"], [true, true])?;
            announce(live, &["198.51.100.0/24", "192.0.2.7/32"], [false, false])
        })?;
        live.edit("no endpoint is ready", &slices([false, false], [false, false]), &MOVES, |live| {
            announce(live, &["198.51.100.7/32"], [false, false])
        })?;
        let single = [RANGES[0], "serviceExternalIPs: [{cidr: 192.0.2.7/32}]", RANGES[2]];
        live.configure(&single, &MOVES, |live| announce(live, &["192.0.2.7/32"], [true, true]))?;
        live.lab.margayctl(&["delete", "service", "web", "-n", "shop"])?;
        live.compare("without the service", &MOVES, |live| announce(live, &["192.0.2.7/32"], [false, false]))?;
        let removed = live.lab.margayctl(&["get", "services", "-n", "shop"])?;
        ensure!(!removed.contains("web"), "{removed}");
        Ok(())
    });
}
