//! The adapter to the DNS over hickory-resolver.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{self, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::ports::dns::{Caa, CaaRecords, DnsError, Resolver};

/// A resolver without a cache: callers that ask twice in a pass keep the answers.
#[derive(Clone)]
pub struct DnsClient(Result<TokioResolver, DnsError>);

impl DnsClient {
    /// Makes a resolver that asks these servers; `None` uses the system's resolv.conf.
    pub fn new(servers: Option<&[SocketAddr]>) -> Self {
        let options = |options: &mut ResolverOpts| {
            options.timeout = ATTEMPT;
            options.attempts = ATTEMPTS;
            options.cache_size = 0;
            options.use_hosts_file = ResolveHosts::Never;
            options.try_tcp_on_error = true;
        };
        let builder = match servers {
            Some(servers) => {
                let servers = servers.iter().map(|server| server_at(*server)).collect();
                let config = ResolverConfig::from_name_servers(servers);
                Ok(TokioResolver::builder_with_config(
                    config,
                    TokioRuntimeProvider::default(),
                ))
            }
            None => TokioResolver::builder_tokio(),
        };
        let resolver = builder.and_then(|mut builder| {
            options(builder.options_mut());
            builder.build()
        });
        Self(
            resolver.map_err(|error| {
                DnsError(format!("the system's DNS servers cannot be used: {error}"))
            }),
        )
    }

    /// Returns the records of a type, without the CNAMEs that led to them.
    async fn records(&self, name: &str, of: RecordType) -> Result<Vec<Record>, DnsError> {
        let resolver = self.0.as_ref().map_err(Clone::clone)?;
        let failed = |why: &str| DnsError(format!("the DNS gave no answer for {name} {of}: {why}"));
        // The dot at the end disables the system's search list.
        let query = Name::from_ascii(format!("{}.", name.trim_end_matches('.')))
            .map_err(|_| failed("not a name it can be asked for"))?;
        match tokio::time::timeout(LONGEST, resolver.lookup(query, of)).await {
            Err(_) => Err(failed(&format!("nothing within {} s", LONGEST.as_secs()))),
            Ok(Ok(found)) => Ok((found.answers().iter())
                .filter(|record| record.record_type() == of)
                .cloned()
                .collect()),
            Ok(Err(NetError::Dns(net::DnsError::NoRecordsFound(_)))) => Ok(Vec::new()),
            Ok(Err(NetError::Dns(net::DnsError::ResponseCode(code)))) => {
                Err(failed(&code.to_str().to_uppercase()))
            }
            Ok(Err(NetError::Timeout)) => Err(failed("no server answered in time")),
            Ok(Err(error)) => Err(failed(&error.to_string())),
        }
    }
}

impl Resolver for DnsClient {
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let (v4, v6) = join(
            self.records(name, RecordType::A),
            self.records(name, RecordType::AAAA),
        )
        .await;
        let address = |record: Record| match record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        let mut found: Vec<IpAddr> = Vec::new();
        let mut failed = None;
        for records in [v4, v6] {
            match records {
                Ok(records) => found.extend(records.into_iter().filter_map(address)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // As authorities do: one family is enough.
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    async fn caa(&self, name: &str) -> Result<CaaRecords, DnsError> {
        let records = self.records(name, RecordType::CAA).await?;
        let owner = records.first().map(|record| record.name.to_ascii());
        let owner = owner.unwrap_or_default().to_ascii_lowercase();
        let owner = match owner.trim_end_matches('.') {
            "" => name,
            owner => owner,
        };
        let caa = |record: Record| match record.data {
            RData::CAA(record) => Some(Caa {
                flags: record.reserved_flags | u8::from(record.issuer_critical) << 7,
                value: String::from_utf8_lossy(&record.value).into_owned(),
                tag: record.tag,
            }),
            _ => None,
        };
        Ok(CaaRecords {
            owner: owner.to_owned(),
            records: records.into_iter().filter_map(caa).collect(),
        })
    }
}

fn server_at(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![
        at_port(ConnectionConfig::udp()),
        at_port(ConnectionConfig::tcp()),
    ];
    NameServerConfig::new(address.ip(), true, connections)
}

/// For one question, over all servers and attempts.
const LONGEST: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 2;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, AAAA, CAA, CNAME};
    use tokio::net::UdpSocket;
    use tokio::task::JoinSet;

    use super::*;

    type Answer = (ResponseCode, Vec<Record>);

    /// A DNS server that answers with the result of `answer`; `None` is silence.
    struct DnsServer {
        address: SocketAddr,
        _tasks: JoinSet<()>,
    }

    impl DnsServer {
        async fn start(
            answer: impl Fn(&str, RecordType) -> Option<Answer> + Send + 'static,
        ) -> Self {
            let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            let address = socket.local_addr().unwrap();
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let mut buffer = [0; 4096];
                loop {
                    let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                    let asked = Message::from_vec(&buffer[..length]).unwrap();
                    let query = asked.queries[0].clone();
                    let name = query.name().to_ascii();
                    let Some((code, records)) = answer(&name, query.query_type()) else {
                        continue;
                    };
                    let mut message = Message::response(asked.id, asked.op_code);
                    message.metadata.response_code = code;
                    message.add_query(query);
                    message.add_answers(records);
                    let bytes = message.to_vec().unwrap();
                    socket.send_to(&bytes, peer).await.unwrap();
                }
            });
            Self {
                address,
                _tasks: tasks,
            }
        }

        fn client(&self) -> DnsClient {
            DnsClient::new(Some(&[self.address]))
        }
    }

    fn record(name: &str, data: RData) -> Record {
        Record::from_rdata(Name::from_ascii(name).unwrap(), 60, data)
    }

    fn found(records: Vec<Record>) -> Option<Answer> {
        Some((ResponseCode::NoError, records))
    }

    fn alias(of: &str, to: &str) -> Record {
        record(of, RData::CNAME(CNAME(Name::from_ascii(to).unwrap())))
    }

    #[tokio::test]
    async fn addresses_of_both_families_are_found() {
        let server = DnsServer::start(|name, of| {
            assert_eq!(name, "shop.example.com.");
            found(vec![match of {
                RecordType::A => record(name, RData::A(A("192.0.2.1".parse().unwrap()))),
                _ => record(name, RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))),
            }])
        })
        .await;
        let addresses = server.client().addresses("shop.example.com").await.unwrap();
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
    }

    #[tokio::test]
    async fn a_chain_of_aliases_is_followed_also_piece_by_piece() {
        let server = DnsServer::start(|name, _| {
            let mut caa = CAA::new_issue(true, None, vec![]);
            caa.reserved_flags = 1;
            let caa = RData::CAA(caa);
            found(match name {
                "www.example.com." => vec![alias(name, "shop.example.net.")],
                "shop.example.net." => vec![alias(name, "edge.example.org.")],
                _ => vec![record(name, caa)],
            })
        })
        .await;
        let found = server.client().caa("www.example.com").await.unwrap();
        assert_eq!(found.owner, "edge.example.org");
        let [record] = found.records.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!((record.flags, record.tag.as_str()), (129, "issue"));
    }

    #[tokio::test]
    async fn none_is_an_answer_and_a_failure_is_not() {
        let server = DnsServer::start(|name, _| match name {
            "none.example.com." => found(vec![]),
            "nowhere.example.com." => Some((ResponseCode::NXDomain, vec![])),
            "broken.example.com." => Some((ResponseCode::ServFail, vec![])),
            "refused.example.com." => Some((ResponseCode::Refused, vec![])),
            _ => None,
        })
        .await;
        let client = server.client();
        for name in ["none.example.com", "nowhere.example.com"] {
            assert_eq!(client.addresses(name).await, Ok(vec![]), "{name}");
            let none = CaaRecords {
                owner: name.to_owned(),
                records: vec![],
            };
            assert_eq!(client.caa(name).await, Ok(none), "{name}");
        }
        for (name, why) in [
            ("broken.example.com", "SERV"),
            ("refused.example.com", "REFUSED"),
        ] {
            let DnsError(said) = client.caa(name).await.unwrap_err();
            assert!(said.contains(why) && said.contains(name), "{said}");
            assert!(client.addresses(name).await.is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn silence_ends_in_time() {
        let server = DnsServer::start(|_, _| None).await;
        let since = std::time::Instant::now();
        let said = server.client().caa("silent.example.com").await.unwrap_err();
        assert!(since.elapsed() < LONGEST + Duration::from_secs(1), "{said}");
    }

    #[tokio::test]
    async fn one_family_is_enough() {
        let server = DnsServer::start(|name, of| match of {
            RecordType::A => found(vec![record(
                name,
                RData::A(A("192.0.2.1".parse().unwrap())),
            )]),
            _ => Some((ResponseCode::ServFail, vec![])),
        })
        .await;
        let addresses = server.client().addresses("shop.example.com").await.unwrap();
        assert_eq!(addresses.len(), 1);
    }

    #[tokio::test]
    async fn what_is_no_name_is_not_asked() {
        let server = DnsServer::start(|_, _| panic!("asked")).await;
        let said = server.client().caa(&"a".repeat(70)).await.unwrap_err();
        assert!(said.to_string().contains("not a name"), "{said}");
    }
}
