package modulet.tunnel;

import java.net.InetAddress;
import java.net.NetworkInterface;
import java.net.SocketException;
import java.net.UnknownHostException;
import java.util.Locale;

/**
 * Who this base is and where its broker, or over HTTP its controller, is. Each setting is a system property ({@code -Dbase.id=...}) or an environment
 * variable (the same in capitals with underscores, {@code BASE_ID}); the property wins.
 */
public record Settings(
        String id, String name, String version, String cluster, String env, String ip, String host, int httpPort,
        String endpoint, String broker, int brokerPort, boolean tls, String user, String password, String clientPrefix,
        int heartSeconds, int workers) {

    /** Those of this JVM. */
    public static final Settings OWN = read();

    private static Settings read() {
        // The long property name is that of Koupleless' own heartbeat.
        String endpoint = get("koupleless.arklet.http.heartbeat.endpoint", get("base.endpoint", ""));
        String host = localHostName();
        String env = get("base.env", get("env", "dev"));
        Settings settings = new Settings(
                get("base.id", host),
                get("base.name", "java-base"),
                get("base.version", "1.0.0"),
                get("base.cluster", "default"),
                // A controller looks for topics with the environment in lower case.
                env.toLowerCase(Locale.ROOT),
                get("base.ip", localAddress()),
                get("base.hostname", host),
                number("base.http.port", 0),
                endpoint.replaceAll("/+$", ""),
                mqtt("broker", "localhost"),
                Integer.parseInt(mqtt("port", "1883")),
                Boolean.parseBoolean(mqtt("tls", "false")),
                mqtt("username", ""),
                mqtt("password", ""),
                mqtt("client.prefix", "koupleless"),
                number("base.heart.seconds", endpoint.isEmpty() ? 10 : 12),
                number("base.workers", 5));
        // These would change the meaning of the topics the base subscribes to, or give them another number of levels.
        if (settings.id.matches(".*[+#/\\x00].*") || settings.env.matches(".*[+#/\\x00].*")) {
            throw new IllegalArgumentException("BASE_ID and ENV must not have any of + # /: " + settings.id + ", " + env);
        }
        return settings;
    }

    /** Tells arklet how it is connected. To be called before Spring starts. */
    public void configureArklet() {
        // arklet makes one object of this class and hands it the service that installs and uninstalls modules.
        Class<?> tunnel = endpoint.isEmpty() ? MqttTunnel.class : HttpHeartbeat.class;
        System.setProperty("koupleless.arklet.custom.tunnel.classname", tunnel.getName());
    }

    /** All topics of this base begin so. */
    String topic(String rest) {
        return "koupleless_" + env + "/" + id + "/" + rest;
    }

    String brokerUri() {
        return (tls ? "ssl://" : "tcp://") + broker + ":" + brokerPort;
    }

    /** MQTT_BROKER and so on; the long property names are those of Koupleless' own MQTT tunnel. */
    private static String mqtt(String key, String otherwise) {
        return get("koupleless.arklet.mqtt." + key, get("mqtt." + key, otherwise));
    }

    private static int number(String key, int otherwise) {
        return Integer.parseInt(get(key, String.valueOf(otherwise)));
    }

    private static String get(String key, String otherwise) {
        String value = System.getProperty(key);
        if (value == null || value.isBlank()) {
            value = System.getenv(key.toUpperCase(Locale.ROOT).replace('.', '_'));
        }
        return value == null || value.isBlank() ? otherwise : value.strip();
    }

    private static String localHostName() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "localhost";
        }
    }

    /** The first IPv4 address that others can reach. In a Pod: set BASE_IP from status.podIP. */
    private static String localAddress() {
        try {
            return NetworkInterface.networkInterfaces()
                    .flatMap(NetworkInterface::inetAddresses)
                    .filter(address -> address instanceof java.net.Inet4Address && !address.isLoopbackAddress()
                            && !address.isLinkLocalAddress())
                    .map(InetAddress::getHostAddress)
                    .findFirst()
                    .orElse("127.0.0.1");
        } catch (SocketException e) {
            return "127.0.0.1";
        }
    }
}
