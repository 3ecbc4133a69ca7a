//! Which service prefixes this node announces, as Calico's route generator decides it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_api::kinds::{BgpConfigurationSpec, ServiceCidr, Toggle};
use margay_api::kubernetes::{
    EndpointSlice, SERVICE_NAME_LABEL, Service, ServiceEndpoint, ServiceType, load_balancer_addresses,
};
use margay_net::{Cidr, Family};

use super::BgpResources;
use super::cluster::cluster_id;

/// The label that keeps a node from announcing services, where its value is `true`.
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What services are to BGP.
pub(super) struct Services {
    /// What this node announces.
    pub(super) announced: BTreeSet<Cidr>,
    /// Ranges that every node announces; what others announce of them isn't programmed.
    pub(super) not_programmed: BTreeSet<Cidr>,
    /// Ranges of which routes of others are passed on.
    pub(super) passed_on: BTreeSet<Cidr>,
}

impl Services {
    pub(super) fn new(resources: &BgpResources<'_>, config: &BgpConfigurationSpec) -> Services {
        let ranges = Ranges::new(config);
        let excluded = resources.node.metadata.labels.get(EXCLUDE_LABEL).is_some_and(|value| value == "true");
        let whole = ranges.announced_whole();
        let mut passed_on = BTreeSet::new();
        if cluster_id(resources.node).is_some() {
            passed_on.extend(ranges.external.iter().chain(&ranges.load_balancer).copied());
        }
        if excluded {
            return Services { announced: BTreeSet::new(), not_programmed: whole, passed_on };
        }
        passed_on.extend(whole.iter().copied());
        let mut announced = whole.clone();
        if !ranges.is_empty() {
            let endpoints = Endpoints::new(resources);
            for service in resources.services.values() {
                announced.extend(ranges.single(service, &endpoints).into_iter().map(Cidr::host));
            }
        }
        Services { announced, not_programmed: whole, passed_on }
    }
}

/// The ranges of BGPConfiguration.
struct Ranges {
    cluster: BTreeSet<Cidr>,
    external: BTreeSet<Cidr>,
    load_balancer: BTreeSet<Cidr>,
    /// Whether load balancer addresses are announced each by itself.
    apart: bool,
}

impl Ranges {
    fn new(config: &BgpConfigurationSpec) -> Ranges {
        let set = |ranges: &[ServiceCidr]| ranges.iter().filter_map(|range| range.cidr).collect();
        Ranges {
            cluster: set(&config.service_cluster_ips),
            external: set(&config.service_external_ips),
            load_balancer: set(&config.service_load_balancer_ips),
            apart: config.service_load_balancer_aggregation == Some(Toggle::Disabled),
        }
    }

    fn is_empty(&self) -> bool {
        self.cluster.is_empty() && self.external.is_empty() && self.load_balancer.is_empty()
    }

    /// What every node announces: a range of one address is a service's, announced with it.
    fn announced_whole(&self) -> BTreeSet<Cidr> {
        let apart = self.apart;
        let load_balancer = self.load_balancer.iter().filter(|_| !apart);
        let several = self.external.iter().chain(load_balancer).filter(|range| !range.is_host());
        self.cluster.iter().chain(several).copied().collect()
    }

    /// The addresses of a service that this node announces each by itself.
    fn single(&self, service: &Service, endpoints: &Endpoints<'_>) -> BTreeSet<IpAddr> {
        let spec = &service.spec;
        let cluster = spec.cluster_addresses();
        if spec.kind() == ServiceType::ExternalName || cluster.is_empty() {
            return BTreeSet::new();
        }
        let allowed = |ranges: &BTreeSet<Cidr>, address: IpAddr| ranges.iter().any(|range| range.contains(address));
        let external: Vec<IpAddr> = spec.external_ips.iter().filter_map(|text| text.parse().ok()).collect();
        let external = external.into_iter().filter(|address| allowed(&self.external, *address));
        let load_balancer =
            load_balancer_addresses(service).into_iter().filter(|address| allowed(&self.load_balancer, *address));
        if spec.is_local() {
            let cluster = cluster.into_iter().filter(|_| !self.cluster.is_empty());
            let all = cluster.chain(external).chain(load_balancer);
            return all.filter(|address| endpoints.is_here(service, Family::of(*address))).collect();
        }
        let is_range = |ranges: &BTreeSet<Cidr>, address: IpAddr| ranges.contains(&Cidr::host(address));
        let external = external.filter(|address| is_range(&self.external, *address));
        let load_balancer = load_balancer.filter(|address| {
            is_range(&self.load_balancer, *address)
                || (self.apart && endpoints.is_anywhere(service, Family::of(*address)))
        });
        external.chain(load_balancer).collect()
    }
}

/// Where services have endpoints that are ready.
struct Endpoints<'a> {
    node: &'a str,
    slices: BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
}

impl<'a> Endpoints<'a> {
    fn new(resources: &BgpResources<'a>) -> Endpoints<'a> {
        let mut slices: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for slice in resources.slices.values() {
            if let Some(service) = slice.metadata.labels.get(SERVICE_NAME_LABEL) {
                slices.entry((slice.namespace().unwrap_or_default(), service.as_str())).or_default().push(slice);
            }
        }
        Endpoints { node: resources.node.name(), slices }
    }

    fn is_here(&self, service: &Service, family: Family) -> bool {
        self.any(service, family, |endpoint| endpoint.node_name.as_deref() == Some(self.node))
    }

    fn is_anywhere(&self, service: &Service, family: Family) -> bool {
        self.any(service, family, |_| true)
    }

    fn any(&self, service: &Service, family: Family, wanted: impl Fn(&ServiceEndpoint) -> bool) -> bool {
        let slices = self.slices.get(&(service.namespace().unwrap_or_default(), service.name()));
        let mut of_family = slices.into_iter().flatten().filter(|slice| slice.spec.family() == Some(family));
        of_family.any(|slice| slice.spec.endpoints.iter().any(|endpoint| endpoint.is_ready() && wanted(endpoint)))
    }
}
