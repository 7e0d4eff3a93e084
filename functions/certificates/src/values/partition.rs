//! The partitions of AWS. Each has its own accounts, ARNs and endpoints.
//!
//! `challenge` compiles this file too, see its `shared.rs`; so it uses nothing else of the library.
//!
//! [Partitions](https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html)

/// One partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partition {
    /// The beginning of its region names.
    regions: &'static str,
    /// Its name in ARNs, after `arn:`.
    name: &'static str,
    /// The end of its service host names.
    domain: &'static str,
}

impl Partition {
    /// Returns the partition of a region; the main one where the name has no known beginning.
    pub fn of(region: &str) -> Self {
        let mut others = OTHERS.into_iter();
        let other = others.find(|partition| region.starts_with(partition.regions));
        other.unwrap_or(MAIN)
    }

    /// Returns its name in ARNs.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns the end of its service host names.
    pub fn domain(self) -> &'static str {
        self.domain
    }
}

const MAIN: Partition = Partition {
    regions: "",
    name: "aws",
    domain: "amazonaws.com",
};

const OTHERS: [Partition; 5] = [
    Partition {
        regions: "cn-",
        name: "aws-cn",
        domain: "amazonaws.com.cn",
    },
    Partition {
        regions: "us-gov-",
        name: "aws-us-gov",
        domain: "amazonaws.com",
    },
    Partition {
        regions: "eusc-",
        name: "aws-eusc",
        domain: "amazonaws.eu",
    },
    Partition {
        regions: "us-iso-",
        name: "aws-iso",
        domain: "c2s.ic.gov",
    },
    Partition {
        regions: "us-isob-",
        name: "aws-iso-b",
        domain: "sc2s.sgov.gov",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_says_which_partition_it_is_in() {
        for (region, name, domain) in [
            ("eu-central-1", "aws", "amazonaws.com"),
            ("us-east-1", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
            ("mars-1", "aws", "amazonaws.com"),
        ] {
            let partition = Partition::of(region);
            assert_eq!((partition.name(), partition.domain()), (name, domain));
        }
    }
}
