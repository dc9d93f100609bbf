//! The demo's replica does what Superset does where a proxy can see it.

use http::Request as HttpRequest;

use super::*;
use crate::lexicon::{ConnectionId, Protocol};
use crate::message::{Connection, Interim, Upgrade};

struct Rig {
    replicas: [Replica; 2],
    killed: watch::Receiver<(u64, Duration)>,
    connection: Arc<Connection>,
}

fn rig() -> Rig {
    let (keys, pages) = (Arc::new(Keys::generate().unwrap()), Arc::new(Pages::new()));
    let (kill, killed) = watch::channel((0, Duration::ZERO));
    let address = "127.0.0.1:1".parse().unwrap();
    Rig {
        replicas: [
            Replica::new("replica-1", Arc::clone(&keys), Arc::clone(&pages), kill),
            Replica::new("replica-2", keys, pages, watch::channel((0, Duration::ZERO)).0),
        ],
        killed,
        connection: Arc::new(Connection {
            id: ConnectionId::next(),
            listener: crate::cli::demo::replica_settings().unwrap(),
            peer: address,
            local: address,
            proxied: None,
            protocol: Protocol::Http1,
            tls: None,
            alternative: None,
        }),
    }
}

impl Rig {
    async fn ask(&self, replica: usize, request: http::request::Builder, body: &'static str) -> (Answer, String) {
        let head = crate::head::request::Parts::from(request.body(()).unwrap());
        let upgrade = head.headers.contains_key(header::UPGRADE).then_some(Upgrade::Http1);
        let request = Request {
            head,
            body: Body::full(body),
            connection: Arc::clone(&self.connection),
            interim: Interim::default(),
            upgrade,
        };
        let mut answer = self.replicas[replica].handle(request).await;
        let mut content = Vec::new();
        while let Some(frame) = answer.body.frame().await {
            if let Frame::Data(data) = frame.unwrap() {
                content.extend_from_slice(&data);
            }
        }
        (answer, String::from_utf8(content).unwrap())
    }

    async fn get(&self, replica: usize, path: &str, cookie: &str) -> (Answer, String) {
        self.ask(replica, HttpRequest::get(path).header("cookie", cookie), "").await
    }
}

fn cookie(answer: &Answer) -> String {
    let set = answer.head.headers[header::SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn login_of_one_replica_holds_on_another() {
    let rig = rig();
    let (form, page) = rig.get(0, "/login/", "").await;
    let anonymous = cookie(&form);
    let csrf = page.split("csrf_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();

    let post = HttpRequest::post("/login/").header("cookie", &anonymous);
    let body = format!("csrf_token={csrf}&username=admin&password=admin").leak();
    let (answer, _) = rig.ask(1, post, body).await;

    assert_eq!(answer.head.status, StatusCode::FOUND);
    assert_eq!(answer.head.headers[header::LOCATION], "/superset/welcome/");
    let user = cookie(&answer);
    let (me, text) = rig.get(0, "/api/v1/me/", &user).await;
    assert_eq!((me.head.status, text.contains("admin")), (StatusCode::OK, true));
    let (page, text) = rig.get(1, "/superset/dashboard/1/", &user).await;
    let policy = page.head.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(text.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(!text.contains("{{"));
}

#[tokio::test]
async fn failed_login_is_redirected_and_a_missing_token_is_refused() {
    let rig = rig();
    let (form, page) = rig.get(0, "/login/", "").await;
    let csrf = page.split("csrf_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let post = || HttpRequest::post("/login/").header("cookie", cookie(&form));

    let (wrong, _) = rig.ask(0, post(), format!("csrf_token={csrf}&username=admin&password=x").leak()).await;
    let (missing, _) = rig.ask(0, post(), "username=admin&password=admin").await;

    assert_eq!(wrong.head.headers[header::LOCATION], "/login/?failed=1");
    assert_eq!(missing.head.status, StatusCode::BAD_REQUEST);
}

#[test]
fn referer_must_name_the_host_with_its_port_over_https() {
    let fields = |referer: &str| {
        let mut fields = Fields::new();
        fields.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        fields.insert("host", HeaderValue::from_static("localhost:8443"));
        fields.insert("referer", HeaderValue::try_from(referer).unwrap());
        fields
    };

    assert!(comes_from_here(&fields("https://localhost:8443/login/")));
    assert!(!comes_from_here(&fields("https://localhost/login/")));
    assert!(!comes_from_here(&fields("https://evil.example/")));
}

#[tokio::test]
async fn pages_want_a_login() {
    let (answer, _) = rig().get(0, "/superset/welcome/", "session=admin.forged.00ff").await;

    assert_eq!(answer.head.headers[header::LOCATION], "/login/?next=/superset/welcome/");
}

#[tokio::test]
async fn health_sets_a_session_only_for_those_without_one() {
    let rig = rig();
    let (first, text) = rig.get(0, "/health", "").await;
    assert_eq!(text, "OK");

    let (second, _) = rig.get(1, "/health", &cookie(&first)).await;

    assert!(!second.head.headers.contains_key(header::SET_COOKIE));
}

#[tokio::test]
async fn export_streams_every_row_once() {
    let (answer, text) = rig().get(0, "/demo/export.csv?rows=1001", "").await;

    assert_eq!(answer.head.headers["x-accel-buffering"], "no");
    assert_eq!(text.lines().count(), 1_002);
    assert!(text.lines().last().unwrap().starts_with("1001,"));
}

#[tokio::test]
async fn upload_is_counted() {
    let (answer, text) = rig().ask(0, HttpRequest::post("/demo/upload"), "a,b\n1,2\n").await;

    assert_eq!(answer.head.status, StatusCode::CREATED);
    assert!(text.contains("\"bytes\":8") && text.contains("\"lines\":2"));
}

#[tokio::test]
async fn asset_is_named_by_its_hash_and_revalidates() {
    let rig = rig();
    let (_, page) = rig.get(0, "/login/", "").await;
    let path = page.split("stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (asset, _) = rig.get(1, &path, "").await;
    let tag = asset.head.headers[header::ETAG].clone();

    let (again, text) = rig.ask(0, HttpRequest::get(&path).header("if-none-match", tag), "").await;

    assert_eq!((again.head.status, text.as_str()), (StatusCode::NOT_MODIFIED, ""));
}

#[tokio::test]
async fn kill_names_the_replica_and_how_long_it_is_gone() {
    let mut rig = rig();

    let (answer, text) = rig.ask(0, HttpRequest::post("/demo/kill?seconds=3"), "").await;

    assert!(answer.close && text.contains("replica-1"));
    rig.killed.changed().await.unwrap();
    assert_eq!(rig.killed.borrow().1, Duration::from_secs(3));
}

#[tokio::test]
async fn websocket_echoes_and_ticks() {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::WebSocketStream;
    use tungstenite::Message;
    use tungstenite::protocol::Role;

    let handshake = HttpRequest::get("/ws")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let (answer, _) = rig().ask(0, handshake, "").await;
    assert_eq!(answer.head.status, StatusCode::SWITCHING_PROTOCOLS);
    // The example of RFC 6455 §1.3.
    assert_eq!(answer.head.headers[header::UPGRADE], "websocket");
    assert_eq!(answer.head.headers[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    let (near, far) = tokio::io::duplex(1_024);
    let tunnel = (answer.tunnel.unwrap())(Box::new(far));
    let talk = async {
        let mut socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("\"tick\":1"));
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    };
    tokio::select! { () = tunnel => panic!("ended early"), () = talk => {} }
}
