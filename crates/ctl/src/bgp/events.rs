use clap::Args;
use margay_local_api::{BgpEvent, BgpEvents, path, with_query};

use crate::output::{self, Format};
use crate::{Connection, Failure};

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Goes on showing them as they come.
    #[arg(short, long)]
    follow: bool,
    /// Only those of one peer, by its name or address.
    #[arg(long)]
    peer: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(super) fn run(connection: &Connection, args: &EventsArgs) -> Result<(), Failure> {
    let mut pairs: Vec<(&str, &str)> = args.peer.iter().map(|peer| ("peer", peer.as_str())).collect();
    if args.follow {
        pairs.push(("follow", "true"));
        return follow(connection, args.output, &with_query(path::BGP_EVENTS, &pairs));
    }
    let view: BgpEvents = connection.daemon().get(&with_query(path::BGP_EVENTS, &pairs))?;
    if let Some(printed) = output::machine(args.output, &view) {
        return printed;
    }
    output::text(&view.events.iter().map(line).collect::<String>())
}

/// Prints each event as it comes: a line of text, or of JSON as the daemon gave it. A reader that goes away ends it.
fn follow(connection: &Connection, format: Format, query: &str) -> Result<(), Failure> {
    let mut failure = None;
    connection.daemon().lines(query, |json| {
        let text = match format {
            Format::Json => Ok(format!("{json}\n")),
            Format::Yaml => read(json).and_then(|event| output::yaml(&event)).map(|yaml| format!("---\n{yaml}")),
            Format::Table | Format::Wide => read(json).map(|event| line(&event)),
        };
        match text.map_err(Failure::Failed).and_then(|text| output::live(&text)) {
            Ok(goes_on) => goes_on,
            Err(error) => {
                failure = Some(error);
                false
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}

fn read(json: &str) -> Result<BgpEvent, String> {
    serde_json::from_str(json).map_err(|error| format!("margayd said something unexpected: {error}"))
}

fn line(event: &BgpEvent) -> String {
    format!("{}  {:<16}  {}\n", event.time, event.peer.as_deref().unwrap_or("-"), event.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_its_time_and_peer() {
        let json = r#"{"time":"2025-01-01T00:00:00.000Z","peer":null,"kind":"config_refused","message":"x"}"#;
        assert_eq!(line(&read(json).expect("an event")), "2025-01-01T00:00:00.000Z  -                 x\n");
    }
}
