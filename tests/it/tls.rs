//! A server behind TLS whose certificate no system knows, and a proxy that is asked for a tunnel.
//!
//! The keys are for this alone, and good until 2126.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The authority that the server's certificate is from.
pub const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUXbtbsvk+/b3rylNPKjXqekIyt38wCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPcHVibGlzaCB0ZXN0IENBMCAXDTI2MTEyNjExMTE0MloYDzIx
MjYxMTAyMTExMTQyWjAaMRgwFgYDVQQDDA9wdWJsaXNoIHRlc3QgQ0EwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAAQhqCoh7fJZPKSs2J1EQF3Y4VTmnbZtpVCZ361B
HrSS0u3Cz0wNGlwqSIPTn32HOQmJO38/fYLXbobC1rSo7nS6o2MwYTAdBgNVHQ4E
FgQUuhm2fM84DQbeQEF0LC9TlPQGpFgwHwYDVR0jBBgwFoAUuhm2fM84DQbeQEF0
LC9TlPQGpFgwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAgQwCgYIKoZI
zj0EAwIDRwAwRAIgdcsgPShqzaoUnmrj1yG2ORignVFR02tL+u6vTEdWV1gCIEM/
z41HjdDz9H2yT7++ldXLzLzFIS4NTAaMdjMk1tTo
-----END CERTIFICATE-----
";

const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBpjCCAUugAwIBAgIUF0nZuo3yyMos3+zGb4TMOOHh13AwCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPcHVibGlzaCB0ZXN0IENBMCAXDTI2MTEyNjExMTE0M1oYDzIx
MjYxMTAyMTExMTQzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQjPAMNo2aZxwROngUISy15K1jkBukV0Jw6XPcLAXpk8cNa
hYAF6uTnl1b+wUL+WmvSYSDyPPjR9Un6UwzNobVuo3MwcTAaBgNVHREEEzARggls
b2NhbGhvc3SHBH8AAAEwEwYDVR0lBAwwCgYIKwYBBQUHAwEwHQYDVR0OBBYEFDk9
gGhnTeW1CjKISvMP8JJyLBdtMB8GA1UdIwQYMBaAFLoZtnzPOA0G3kBBdCwvU5T0
BqRYMAoGCCqGSM49BAMCA0kAMEYCIQCpRgPZRl+akKTD5lTgN1PcWi18sgDlIoig
k+iZ0aaxnwIhAMJRsBei9JrbaIcBX2RQA/42KJWgdVflaP5fRWiCu/bj
-----END CERTIFICATE-----
";

const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDw01tPZ4cOrkLgfJ
YdOaWG43+QetEOTIMl9LGzkoLQWhRANCAAQjPAMNo2aZxwROngUISy15K1jkBukV
0Jw6XPcLAXpk8cNahYAF6uTnl1b+wUL+WmvSYSDyPPjR9Un6UwzNobVu
-----END PRIVATE KEY-----
";

/// Gives the same text to everybody who speaks TLS with it, and returns its address.
pub fn serve(text: &'static str) -> String {
    let config =
        ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap(),
            )
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    // It ends with the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            // Who does not trust the certificate hangs up.
            let mut asked = [0; 4096];
            if stream.read(&mut asked).is_ok_and(|read| read > 0) {
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                    text.len()
                );
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    url
}

/// A proxy that leads a tunnel to `to`, whatever name it is asked for, and tells what that was.
pub fn tunnel(to: &str) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let to = to.trim_start_matches("https://").to_owned();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let _ = tell.send(head.join("\n"));
            let Ok(there) = TcpStream::connect(&to) else { continue };
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            let (mut up, mut down) = (there.try_clone().unwrap(), there);
            let mut back = stream.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut stream, &mut up));
            std::thread::spawn(move || std::io::copy(&mut down, &mut back));
        }
    });
    (url, told)
}
