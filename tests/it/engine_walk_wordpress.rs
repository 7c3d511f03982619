//! The documentation's example of a blog and its database, with the rotation of the password that
//! they share: a real MariaDB on one engine, and on the other a program that does to it what a blog
//! would.
//!
//! The database resolves to its task's address (`dnsrr`): a virtual one needs IPVS, which not every
//! kernel has.

use std::time::Duration;

use crate::kit::docker::docker_with;
use crate::kit::engine::{PATIENCE, Site};
use crate::kit::eventually;

/// What the images of MySQL and MariaDB do at their start, as far as the example needs it. (MariaDB's
/// `mysqladmin` turns a log off while it changes a password, which MySQL's does not ask for.)
const DATABASE: &str = r#"set -e
mkdir -p /run/mysqld /tmp
if [ ! -d /var/lib/mysql/mysql ]; then
    mariadb-install-db --user=root --datadir=/var/lib/mysql --skip-test-db >/dev/null
    cat >/tmp/first.sql <<END
ALTER USER root@localhost IDENTIFIED BY '$(cat "$MYSQL_ROOT_PASSWORD_FILE")';
CREATE DATABASE $MYSQL_DATABASE;
CREATE USER $MYSQL_USER@'%' IDENTIFIED BY '$(cat "$MYSQL_PASSWORD_FILE")';
GRANT ALL ON $MYSQL_DATABASE.* TO $MYSQL_USER@'%';
GRANT SUPER ON *.* TO $MYSQL_USER@'%';
END
    set -- --init-file=/tmp/first.sql
fi
exec mariadbd --user=root --datadir=/var/lib/mysql --bind-address=0.0.0.0 --skip-name-resolve "$@"
"#;

/// Writes a post every second, and says how many there are.
const BLOG: &str = r#"
ask() {
    mariadb --connect-timeout=5 -N -h "$WORDPRESS_DB_HOST" -u "$WORDPRESS_DB_USER" \
        --password="$(cat "$WORDPRESS_DB_PASSWORD_FILE")" "$WORDPRESS_DB_NAME" -e "$1"
}
trap 'exit 0' TERM
while :; do
    ask 'CREATE TABLE IF NOT EXISTS posts (id INT PRIMARY KEY AUTO_INCREMENT);
         INSERT INTO posts VALUES (NULL); SELECT CONCAT("posts: ", COUNT(*)) FROM posts' 2>&1
    sleep 1 & wait $!
done
"#;

/// Two engines, the first with the database's image, both with the network.
fn site() -> Site {
    let site = Site::up(&["wp-a", "wp-b"]);
    for engine in &site.engines {
        engine.debian_image("mysql:latest", &["mariadb-server-core", "mariadb-client"]);
    }
    for (secret, value) in
        [("mysql_root_password", "the root password"), ("mysql_password", "the first password")]
    {
        let said = docker_with(
            &site.purser.socket(),
            &format!("secret create {secret} -"),
            value.as_bytes(),
        );
        said.ok();
    }
    for (config, text) in [("database", DATABASE), ("blog", BLOG)] {
        let args = format!("config create {config} -");
        docker_with(&site.purser.socket(), &args, text.as_bytes()).ok();
    }
    site.docker("network create -d overlay mysql_private").ok();
    site
}

/// How many posts the newest line of the blog's present task tells of.
fn posts(site: &Site) -> Option<u64> {
    let running = site.running("wordpress");
    let [task] = &running[..] else { return None };
    let lines = site.engine_of(task).docker(&format!("logs --tail 1 {}", task.container)).ok();
    lines.strip_prefix("posts: ")?.trim().parse().ok()
}

/// Waits until the blog has written more.
#[track_caller]
fn more_posts(site: &Site, when: &str) {
    let before = eventually(&format!("{when}: the blog writes"), PATIENCE, || posts(site));
    eventually(&format!("{when}: the blog goes on"), PATIENCE, || {
        posts(site).filter(|posts| *posts > before)
    });
}

/// Runs a shell line in the database's container.
#[track_caller]
fn in_database(site: &Site, line: &str) -> String {
    let tasks = site.await_running("mysql", 1);
    site.exec(&tasks[0], &format!("sh -c '{line}'")).ok()
}

/// The database on the first engine, the blog on the second.
fn create_services(site: &Site) {
    let [first, second] = [0, 1].map(|number| site.node_id(&site.engines[number]));
    site.docker(&format!(
        "service create --detach --name mysql --replicas 1 --network mysql_private \
         --constraint node.id=={first} --endpoint-mode dnsrr \
         --mount type=volume,source=mydata,destination=/var/lib/mysql \
         --secret source=mysql_root_password,target=mysql_root_password \
         --secret source=mysql_password,target=mysql_password \
         -e MYSQL_ROOT_PASSWORD_FILE=/run/secrets/mysql_root_password \
         -e MYSQL_PASSWORD_FILE=/run/secrets/mysql_password \
         -e MYSQL_USER=wordpress -e MYSQL_DATABASE=wordpress \
         --config source=database,target=/start.sh mysql:latest sh /start.sh"
    ))
    .ok();
    site.docker(&format!(
        "service create --detach --name wordpress --replicas 1 --network mysql_private \
         --constraint node.id=={second} \
         --secret source=mysql_password,target=wp_db_password,mode=0444 \
         -e WORDPRESS_DB_USER=wordpress -e WORDPRESS_DB_NAME=wordpress \
         -e WORDPRESS_DB_PASSWORD_FILE=/run/secrets/wp_db_password \
         -e WORDPRESS_DB_HOST=mysql --config source=blog,target=/blog.sh \
         mysql:latest sh /blog.sh"
    ))
    .ok();
}

/// The new password beside the old one, changed in the database, then everywhere.
fn rotate(site: &Site) {
    docker_with(&site.purser.socket(), "secret create mysql_password_v2 -", b"the second one").ok();
    site.docker("service update --detach --secret-rm mysql_password mysql").ok();
    site.docker(
        "service update --detach --secret-add source=mysql_password,target=old_mysql_password \
         --secret-add source=mysql_password_v2,target=mysql_password mysql",
    )
    .ok();
    eventually("the database has both passwords", PATIENCE, || {
        let tasks = site.running("mysql");
        let [task] = &tasks[..] else { return None };
        let both =
            site.exec(task, "ls /run/secrets/old_mysql_password /run/secrets/mysql_password");
        (both.code == 0).then_some(())
    });
    more_posts(site, "with the old password, which the volume kept");
    eventually("the password is changed in the database", PATIENCE, || {
        let tasks = site.running("mysql");
        let [task] = &tasks[..] else { return None };
        let line = "mysqladmin --host=127.0.0.1 --user=wordpress \
                    --password=\"$(cat /run/secrets/old_mysql_password)\" \
                    password \"$(cat /run/secrets/mysql_password)\"";
        (site.exec(task, &format!("sh -c '{line}'")).code == 0).then_some(())
    });
    site.docker(
        "service update --detach --secret-rm mysql_password \
         --secret-add source=mysql_password_v2,target=wp_db_password wordpress",
    )
    .ok();
    eventually("the blog has the new password", PATIENCE, || {
        let tasks = site.running("wordpress");
        let [task] = &tasks[..] else { return None };
        (site.exec(task, "cat /run/secrets/wp_db_password").out == "the second one").then_some(())
    });
    more_posts(site, "with the new password");
}

#[test]
fn a_blog_and_its_database_share_a_password_that_is_rotated() {
    let site = site();
    create_services(&site);
    site.await_running("mysql", 1);
    site.await_running("wordpress", 1);
    more_posts(&site, "at first");

    rotate(&site);

    // What is still used cannot be removed; the old one is revoked and goes.
    let refused = site.docker("secret rm mysql_password").refused();
    assert!(refused.contains("is in use by the following service: mysql"), "{refused}");
    site.docker("service update --detach --secret-rm mysql_password mysql").ok();
    site.docker("secret rm mysql_password").ok();
    eventually("the old password is gone from the database's container", PATIENCE, || {
        let tasks = site.running("mysql");
        let [task] = &tasks[..] else { return None };
        let left = site.exec(task, "ls /run/secrets");
        (left.code == 0 && left.out == "mysql_password\nmysql_root_password").then_some(())
    });
    assert_eq!(in_database(&site, "cat /run/secrets/mysql_password"), "the second one");
    more_posts(&site, "at the end");
    site.docker("service rm wordpress mysql").ok();
    eventually("the network is free", Duration::from_secs(30), || {
        (site.docker("network rm mysql_private").code == 0).then_some(())
    });
}
