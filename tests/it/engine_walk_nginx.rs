//! The documentation's example of a web server with three secrets, on a stock engine, with a real
//! nginx and a real certificate.
//!
//! The port is published in host mode: the routing mesh needs IPVS, which not every kernel has.

use std::path::Path;
use std::process::{Command, Output};

use crate::kit::engine::Site;
use crate::kit::scratch::Scratch;

/// What the documentation has for the root certificate and for that of the site.
const ROOT_CNF: &str = "[root_ca]
basicConstraints = critical,CA:TRUE,pathlen:1
keyUsage = critical, nonRepudiation, cRLSign, keyCertSign
subjectKeyIdentifier=hash
";
const SITE_CNF: &str = "[server]
authorityKeyIdentifier=keyid,issuer
basicConstraints = critical,CA:FALSE
extendedKeyUsage=serverAuth
keyUsage = critical, digitalSignature, keyEncipherment
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier=hash
";
const SITE_CONF: &str = "server {
    listen                443 ssl;
    server_name           localhost;
    ssl_certificate       /run/secrets/site.crt;
    ssl_certificate_key   /run/secrets/site.key;

    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }
}
";

/// A root of its own, and a key and certificate of the site signed with it.
const COMMANDS: &[&str] = &[
    "genrsa -out root-ca.key 2048",
    "req -new -key root-ca.key -out root-ca.csr -sha256 -subj /C=US/ST=CA/L=SF/O=Docker/CN=Example",
    "x509 -req -days 3650 -in root-ca.csr -signkey root-ca.key -sha256 -out root-ca.crt \
     -extfile root-ca.cnf -extensions root_ca",
    "genrsa -out site.key 2048",
    "req -new -key site.key -out site.csr -sha256 -subj /C=US/ST=CA/L=SF/O=Docker/CN=localhost",
    "x509 -req -days 750 -in site.csr -sha256 -CA root-ca.crt -CAkey root-ca.key -CAcreateserial \
     -out site.crt -extfile site.cnf -extensions server",
];

#[test]
fn nginx_serves_with_a_key_that_is_a_secret() {
    let site = Site::up(&["nginx"]);
    let engine = &site.engines[0];
    engine.debian_image("nginx:latest", &["nginx-light"]);
    let dir = Scratch::new("nginx");
    for (name, text) in
        [("root-ca.cnf", ROOT_CNF), ("site.cnf", SITE_CNF), ("site.conf", SITE_CONF)]
    {
        std::fs::write(dir.join(name), text).expect("a file");
    }
    for args in COMMANDS {
        done(run(&dir, "openssl", args));
    }
    for name in ["site.key", "site.crt", "site.conf"] {
        site.docker(&format!("secret create {name} {}", dir.join(name).display())).ok();
    }
    assert_eq!(site.docker("secret ls -q").ok().lines().count(), 3);

    site.docker(
        "service create --name nginx --secret site.key --secret site.crt \
         --secret source=site.conf,target=/etc/nginx/conf.d/site.conf \
         --publish published=3000,target=443,mode=host nginx:latest \
         sh -c 'mkdir -p /var/log/nginx /var/lib/nginx && exec nginx -g \"daemon off;\"'",
    )
    .ok();
    site.await_running("nginx", 1);
    assert!(
        site.docker("service ls --format '{{.Replicas}} {{.Name}}'").ok().contains("1/1 nginx")
    );

    let to = format!("--connect-to localhost:3000:{}:3000", engine.addr());
    let fetch = |more: &str| {
        let args = format!("-sS --max-time 10 {more} {to} https://localhost:3000");
        run(&dir, "curl", &args)
    };
    let page = crate::kit::eventually("nginx answers", crate::kit::engine::PATIENCE, || {
        let page = fetch("--cacert root-ca.crt");
        page.status.success().then(|| String::from_utf8_lossy(&page.stdout).into_owned())
    });
    assert!(page.contains("Welcome to nginx!"), "{page}");
    assert!(!fetch("").status.success(), "nobody trusts that root by itself");
    let shown = done(run(
        &dir,
        "openssl",
        &format!(
            "s_client -connect {}:3000 -servername localhost -CAfile root-ca.crt -brief",
            engine.addr()
        ),
    ));
    assert!(shown.contains("Verification: OK") && shown.contains("CN = localhost"), "{shown}");

    site.docker("service rm nginx").ok();
    site.docker("secret rm site.crt site.key site.conf").ok();
}

fn run(dir: &Path, program: &str, args: &str) -> Output {
    let said = Command::new(program)
        .args(args.split_whitespace())
        .current_dir(dir)
        .stdin(std::process::Stdio::null())
        .output();
    said.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// All that a command said, which must have been content.
#[track_caller]
fn done(said: Output) -> String {
    let text = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(said.status.success(), "{}", text.concat());
    text.concat()
}
