//! The file that lists machines: one a line, five words each.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

/// What `fermion node template` prints.
pub(super) const TEMPLATE: &str = "\
# One machine a line, with blanks or tabs between:
#   NAME         its host name: at most 20 lower-case letters, digits and hyphens
#   IP           its address
#   BMC-IP       address of its management controller, or -
#   BMC-MAC      MAC address of its management controller, or -
#   PASSWORD     password of its root, which may hold blanks, or -
# Lines that begin with # are left out. Keep this file safe, or delete it afterwards.
# NAME   IP          BMC-IP      BMC-MAC            PASSWORD
# node-01  10.0.0.11   10.0.1.11   3c:ec:ef:00:00:01  correct horse battery staple
";

/// The longest name of a machine.
const NAME_LENGTH_MAX: usize = 20;
/// The longest password, in bytes.
const PASSWORD_LENGTH_MAX: usize = 256;
/// The most machines of one file.
const MACHINES_MAX: usize = 10_000;
/// The most mistakes that are told at once.
const PROBLEMS_MAX: usize = 20;

/// A machine to add.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) bmc_address: Option<IpAddr>,
    /// In lower case, with colons.
    pub(super) bmc_mac: Option<String>,
    pub(super) password: Option<Password>,
}

/// A password, which no message shows.
pub(super) struct Password(String);

impl Password {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

/// A mistake, with the line it is in; 0 where there are no lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: usize,
    pub(super) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(formatter, "line {}: ", self.line)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Reads a file; everything that is wrong with it, if something is.
pub(super) fn parse(text: &str) -> Result<Vec<Machine>, Vec<Problem>> {
    let mut machines = Vec::new();
    let mut problems = Vec::new();
    // On which line a name, address or MAC was first.
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if machines.len() >= MACHINES_MAX {
            problems.push(Problem { line: number, message: format!("more than {MACHINES_MAX} machines; split the file") });
            break;
        }
        match read_line(line) {
            Ok(machine) => {
                let mut keys = vec![format!("name {}", machine.name), format!("address {}", machine.address)];
                keys.extend(machine.bmc_address.map(|address| format!("address {address}")));
                keys.extend(machine.bmc_mac.as_ref().map(|mac| format!("MAC {mac}")));
                for key in keys {
                    if let Some(before) = seen.get(&key) {
                        problems.push(Problem { line: number, message: format!("{key} stands on line {before} already") });
                    } else {
                        seen.insert(key, number);
                    }
                }
                machines.push(machine);
            }
            Err(messages) => problems.extend(messages.into_iter().map(|message| Problem { line: number, message })),
        }
    }
    if machines.is_empty() && problems.is_empty() {
        problems.push(Problem { line: 0, message: "it lists no machine".to_owned() });
    }
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    problems.truncate(PROBLEMS_MAX);
    if more > 0 {
        problems.push(Problem { line: 0, message: format!("and {more} more mistakes") });
    }
    if problems.is_empty() { Ok(machines) } else { Err(problems) }
}

fn read_line(line: &str) -> Result<Machine, Vec<String>> {
    let mut words = [""; 4];
    let mut rest = line;
    for (index, word) in words.iter_mut().enumerate() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        *word = &rest[..end];
        rest = rest[end..].trim_start();
        if rest.is_empty() {
            // The words themselves are not shown: with one left out, one of them may be the password.
            return Err(vec![format!("has {} words, not NAME IP BMC-IP BMC-MAC PASSWORD", index + 1)]);
        }
    }
    machine(words, (rest != "-").then(|| Password::new(rest)))
}

/// A machine by its name, address, and the addresses of its controller; `-` for none.
pub(super) fn machine([name, address, bmc_address, bmc_mac]: [&str; 4], password: Option<Password>) -> Result<Machine, Vec<String>> {
    let mut wrong = Vec::new();
    if !is_name(name) {
        wrong.push(format!(
            "`{name}` cannot be a name: use at most {NAME_LENGTH_MAX} lower-case letters, digits and hyphens, no hyphen first or last"
        ));
    }
    // In a line with a word too few, any word but the name may be the password: none is shown.
    let mut ip = |what: &str, text: &str| text.parse::<IpAddr>().map_err(|_| wrong.push(format!("the {what} is not an IP address"))).ok();
    let address = ip("address", address);
    let bmc_address = if bmc_address == "-" { Some(None) } else { ip("BMC address", bmc_address).map(Some) };
    let bmc_mac = if bmc_mac == "-" { Some(None) } else { mac(bmc_mac).map(Some) };
    if bmc_mac.is_none() {
        wrong.push("the BMC MAC is not a MAC address, such as 3c:ec:ef:00:00:01".to_owned());
    }
    if password
        .as_ref()
        .is_some_and(|password| password.0.is_empty() || password.0.len() > PASSWORD_LENGTH_MAX || password.0.chars().any(char::is_control))
    {
        wrong.push(format!("the password must have 1 to {PASSWORD_LENGTH_MAX} characters, none of them a control character"));
    }
    match (address, bmc_address, bmc_mac) {
        (Some(address), Some(bmc_address), Some(bmc_mac)) if wrong.is_empty() => {
            Ok(Machine { name: name.to_owned(), address, bmc_address, bmc_mac, password })
        }
        _ => Err(wrong),
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A MAC address in lower case with colons.
fn mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let fine = parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    fine.then(|| parts.join(":").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        parse(text).expect_err("mistakes").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn machines_are_read_line_by_line() {
        let text = "\u{feff}# a comment\n\nn1 10.0.0.1\t10.0.1.1 3C-EC-EF-00-00-01 a pass word \nn2 fd00::2 - - -\r\n";
        let machines = parse(text).expect("fine");
        assert_eq!(machines.iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
        assert_eq!(machines[0].bmc_mac.as_deref(), Some("3c:ec:ef:00:00:01"));
        assert_eq!(machines[0].password.as_ref().map(Password::reveal), Some("a pass word"));
        assert!(machines[1].bmc_address.is_none() && machines[1].password.is_none());
    }

    #[test]
    fn the_template_is_a_file_without_machines() {
        assert_eq!(wrong(TEMPLATE), ["it lists no machine"]);
        let filled = TEMPLATE.replace("# node-01", "node-01");
        assert_eq!(parse(&filled).expect("its example is fine").len(), 1);
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_no_password_with_it() {
        let text = "Node_1 10.0.0.300 x y secret\nn2 10.0.0.2 10.0.1.2\nn3 10.0.0.3 - - -\nn3 10.0.0.3 - - -\na-name-that-is-too-long 10.0.0.5 - - secret\n";
        let wrong = wrong(text);
        insta::assert_snapshot!(wrong.join("\n"));
        assert!(!wrong.join("\n").contains("secret"));
        assert!(!format!("{:?}", parse("n1 10.0.0.1 - - secret").expect("fine")).contains("secret"));
    }
}
