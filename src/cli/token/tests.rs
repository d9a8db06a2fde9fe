use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::config::{LoadOptions, load};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    token: TokenArgs,
}

fn args(words: &[&str]) -> TokenArgs {
    let words = std::iter::once(&"token").chain(words);
    Command::try_parse_from(words).unwrap().token
}

/// Two upstreams, `one` and `two`, of the credential `app`; and `fixed`, which nobody uses.
fn config(token_url: &str, scopes_of_two: &str) -> Config {
    let upstream = |name: &str, port: u16, scopes: &str| {
        format!(
            "[upstreams.{name}]\nbase_url = \"https://{name}.example\"\ncredential = \"app\"\nscopes = [{scopes}]\n\
             listen = \"127.0.0.1:{port}\"\n[[upstreams.{name}.routes]]\nname = \"x\"\nmethods = [\"GET\"]\n\
             path = \"/x\"\nscopes = [\"api:read\"]\n"
        )
    };
    let text = format!(
        "[credentials.app]\nclient_id = \"bursar\"\nauth_method = \"client_secret_basic\"\n\
         client_secret = \"canary-secret\"\ntoken_url = \"{token_url}\"\n\
         [credentials.fixed]\ngrant = \"static\"\ntoken = \"canary-static\"\n{}{}",
        upstream("one", 8082, "\"api:read\""),
        upstream("two", 8083, scopes_of_two),
    );
    let loaded = load(&LoadOptions::from_text("bursar.toml", &text));
    loaded
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)))
        .config
}

/// A token endpoint that answers one request with `answer`; its URL.
fn server(status: &'static str, answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all((head + &answer).as_bytes()).unwrap();
    });
    url
}

fn jwt(claims: &Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({ "alg": "RS256", "kid": "k1" }));
    format!("{header}.{}.canary-signature", part(claims))
}

#[test]
fn everything_is_told_but_the_token() {
    let token = jwt(&json!({ "iss": "https://as.example", "email": "canary", "exp": 9 }));
    let answer_of_as = json!({ "access_token": token, "token_type": "bearer", "expires_in": 1800, "scope": "other" });
    let config = config(&server("200 OK", answer_of_as.to_string()), "\"api:read\"");
    let said = answer(&args(&["app", "-o", "json"]), &config, true).unwrap();
    assert!(!said.stdout.contains("canary") && !said.stdout.contains(&token));
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(told["credential"], "app");
    assert_eq!(told["grant"], "client_credentials");
    assert_eq!(told["expires_in_seconds"], 1800);
    assert_eq!(told["scopes_missing"], json!(["api:read"]));
    assert_eq!(
        told["jwt"],
        json!({ "alg": "RS256", "kid": "k1", "iss": "https://as.example", "exp": 9 })
    );
}

#[test]
fn a_person_at_a_terminal_may_have_the_token_and_is_warned() {
    let body = json!({ "access_token": "canary-token", "token_type": "bearer", "expires_in": 60 });
    let config = config(&server("200 OK", body.to_string()), "\"api:read\"");
    let said = answer(&args(&["app", "--reveal"]), &config, true).unwrap();
    assert_eq!(said.stdout, "canary-token");
    assert!(said.stderr.contains("in 1m") && !said.stderr.contains("canary"));
}

#[test]
fn off_a_terminal_nothing_is_revealed_nor_asked_for() {
    let config = config("http://127.0.0.1:1/token", "\"api:read\"");
    let refused = answer(&args(&["app", "--reveal"]), &config, false).unwrap_err();
    assert!(matches!(refused, TokenError::NoTerminal));
    assert_eq!(refused.exit(), Exit::Usage);
}

#[test]
fn a_static_token_is_described_without_a_request() {
    let config = config("http://127.0.0.1:1/token", "\"api:read\"");
    let said = answer(&args(&["fixed"]), &config, false).unwrap();
    assert!(
        said.stdout.contains("the token is static"),
        "{}",
        said.stdout
    );
    assert!(!said.stdout.contains("canary"));
}

#[test]
fn what_cannot_be_chosen_is_wrong_usage_and_says_what_there_is() {
    let config = config("http://127.0.0.1:1/token", "\"api:write\"");
    for (words, names) in [
        (&["ap"][..], "app, fixed"),
        (&["app"], "one, two"),
        (&["app", "--upstream", "three"], "one, two"),
    ] {
        let refused = answer(&args(words), &config, false).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        assert!(refused.to_string().contains(names), "{refused}");
    }
}

#[test]
fn no_token_is_1_and_75_where_it_may_work_later() {
    let gone = config("http://127.0.0.1:1/token", "\"api:read\"");
    let refused = answer(&args(&["app"]), &gone, false).unwrap_err();
    assert_eq!(refused.exit(), Exit::Temporary, "{refused}");

    let body = json!({ "error": "invalid_client", "error_description": "canary" });
    let config = config(
        &server("401 Unauthorized", body.to_string()),
        "\"api:read\"",
    );
    let refused = answer(&args(&["app"]), &config, false).unwrap_err();
    assert_eq!(refused.exit(), Exit::Failed);
    assert!(refused.to_string().contains("invalid_client"));
    assert!(!refused.to_string().contains("canary"));
}
