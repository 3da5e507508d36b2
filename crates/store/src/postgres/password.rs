//! A password that the address does not hold, from where libpq finds it: `PGPASSWORD`, or the file that
//! `PGPASSFILE` names, by default `~/.pgpass`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// Finds the password for an address.
pub(super) fn find(config: &Config) -> Option<Vec<u8>> {
    if let Some(password) = std::env::var_os("PGPASSWORD") {
        return Some(password.into_encoded_bytes());
    }
    let path = match std::env::var_os("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir()?.join(".pgpass"),
    };
    let metadata = std::fs::metadata(&path).ok()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the file with passwords is not used, because others may read it: chmod 600");
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    in_file(&text, config)
}

/// The password of the first line that fits one of the hosts.
fn in_file(text: &str, config: &Config) -> Option<Vec<u8>> {
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let [host, port, of_database, of_user, password] = fields(line)?;
        let fits = |field: &str, value: &str| field == "*" || field == value;
        let of_host = config.get_hosts().iter().enumerate().any(|(index, candidate)| {
            let ports = config.get_ports();
            let candidate_port = ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
            let name = match candidate {
                Host::Tcp(name) => name.clone(),
                Host::Unix(_) => "localhost".to_owned(),
            };
            fits(&host, &name) && fits(&port, &candidate_port.to_string())
        });
        (of_host && fits(&of_database, database) && fits(&of_user, user)).then(|| password.into_bytes())
    })
}

/// A line's fields, which end at colons; a backslash takes the next character as it is.
fn fields(line: &str) -> Option<[String; 5]> {
    let mut fields: [String; 5] = Default::default();
    let mut index = 0;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => fields[index].extend(characters.next()),
            ':' if index < 4 => index += 1,
            other => fields[index].push(other),
        }
    }
    (index == 4).then_some(fields)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn first_line_that_fits_has_the_password() {
        let text = "# comment\n\
                    other:5432:fermion:me:wrong\n\
                    db.example:5433:fermion:me:wrong port\n\
                    db.example:*:fermion:you:wrong user\n\
                    db.example:5432:fermion:me:it\\:is \\\\this:one\n\
                    *:*:*:*:too late\n";
        let found = |url: &str| in_file(text, &url.parse().unwrap()).map(|password| String::from_utf8(password).unwrap());
        assert_eq!(found("postgres://me@db.example/fermion").unwrap(), "it:is \\this:one");
        assert_eq!(found("postgres://me@db.example:5433/fermion").unwrap(), "wrong port");
        assert_eq!(found("postgres://me@elsewhere/x").unwrap(), "too late");
        assert_eq!(in_file("a:b\n", &"postgres://me@a/b".parse().unwrap()), None);
    }
}
