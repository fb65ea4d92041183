//! What the API's own decoding takes beside the obvious: `null` anywhere, numbers where a quantity stands, and,
//! because YAML comes to it through JSON, whole numbers that were written with a fraction of nothing.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::Text;

/// A quantity as it was written: a text, or a number without quotes. `null` is no amount, and so is the empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amount<'a> {
    text: Text<'a>,
    number: bool,
}

impl Amount<'_> {
    /// The value as it stands in the object.
    pub fn to_value(&self) -> Value {
        let number = || serde_json::from_str(&self.text).map(Value::Number).ok();
        let written = if self.number { number() } else { None };
        written.unwrap_or_else(|| Value::String(self.text.to_string()))
    }
}

impl Deref for Amount<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Amount<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        fn number<'a>(text: String) -> Amount<'a> {
            Amount { text: Text(Cow::Owned(text)), number: true }
        }

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Amount<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a quantity")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Amount { text: Text::read_borrowed(text)?, number: false })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Amount { text: Text::read(text)?, number: false })
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(number(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(number(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                // As JSON has it, so that it can be put back as it was.
                Ok(number(Value::from(value).to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Reads a number of a port; what can be none is for the API server to refuse.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Ok(whole(deserializer)?.and_then(|number| number.try_into().ok()))
}

/// Reads a whole number, `30.0` too.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Whole(i64);

    impl<'de> Deserialize<'de> for Whole {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Visitor).map(Self)
        }
    }

    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = i64;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a whole number")
        }

        fn visit_i64<E>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
            value.try_into().map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<i64, E> {
            // Through its digits, which a conversion could cut off.
            let digits = (value.fract() == 0.0).then(|| format!("{value:.0}").parse().ok()).flatten();
            digits.ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }

    Ok(Option::<Whole>::deserialize(deserializer)?.map(|whole| whole.0))
}

/// Reads `null` as the default, as Kubernetes does.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::pod::Pod;

    #[test]
    fn quantities_may_be_numbers_and_are_put_back_as_they_were() {
        let amounts = json!({"cpu": 0.5, "memory": 8e9, "a": 4, "b": "500m", "c": null, "d": -1, "e": 1e300});
        let pod = json!({"spec": {"containers": [{"resources": {"limits": amounts}}]}}).to_string();
        let pod: Pod<'_> = serde_json::from_str(&pod).unwrap();
        let limits = pod.spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
        let texts: Vec<_> = limits.iter().map(|(key, amount)| format!("{key}={}", &**amount)).collect();
        assert_eq!(texts, ["a=4", "b=500m", "c=", "cpu=0.5", "d=-1", "e=1e+300", "memory=8000000000.0"]);
        for (key, amount) in limits.iter().filter(|(key, _)| &***key != "c") {
            assert_eq!(amount.to_value(), amounts[&**key], "{}", &**key);
        }
    }

    #[test]
    fn numbers_may_have_a_fraction_of_nothing_and_ports_may_be_none() {
        let text = r#"{"spec":{"terminationGracePeriodSeconds":3e1,"containers":[
            {"ports":[{"containerPort":80.0},{"containerPort":70000},{"hostPort":null},null]}]}}"#;
        let pod: Pod<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(pod.spec.termination_grace_period_seconds, Some(30));
        let ports: Vec<_> =
            pod.spec.containers[0].ports.iter().flatten().map(|port| port.container_port).collect();
        assert_eq!(ports, [Some(80), None, None, None]);
        for odd in ["0.5", "1e30", "\"30\"", "18446744073709551615"] {
            let text = format!(r#"{{"spec":{{"terminationGracePeriodSeconds":{odd}}}}}"#);
            assert!(serde_json::from_str::<Pod<'_>>(&text).is_err(), "{odd}");
        }
    }

    #[test]
    fn null_is_nothing_wherever_it_stands() {
        let text = r#"{"spec":{"volumes":[null],"nodeSelector":{"a":null},"containers":[null,{"volumeMounts":[null]}],
            "affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[null]}}}},
            "metadata":{"ownerReferences":[null,{"controller":null,"name":null}],"labels":{"x":null}}}"#;
        let pod: Pod<'_> = serde_json::from_str(text).unwrap();
        assert_eq!((pod.spec.volumes.unwrap().len(), pod.spec.containers.len()), (1, 2));
    }
}
