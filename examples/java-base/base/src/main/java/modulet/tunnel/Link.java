package modulet.tunnel;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import javax.net.ssl.SSLSocketFactory;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttException;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The connection to the broker. One thread connects, beats, asks for the baseline and publishes, and it does so for as
 * long as the JVM lives: nothing that goes wrong with a message or a connection ends it. A reply that the broker has not
 * acknowledged is published again after the next connect.
 */
final class Link {
    private static final Logger LOG = LoggerFactory.getLogger(Link.class);
    private static final int QOS = 1;
    private static final int KEEP_ALIVE_SECONDS = 60;
    private static final long ACKNOWLEDGE_MS = 10_000;
    private static final long LEAVE_MS = 1_500;
    private static final long FIRST_PAUSE_MS = 250;
    private static final long LONGEST_PAUSE_MS = 5_000;
    /** A connection that lasted this long was a good one: the next attempt comes soon again. */
    private static final long GOOD_NANOS = TimeUnit.SECONDS.toNanos(10);

    private final Settings settings;
    private final Wire wire;
    private final Outbox outbox = new Outbox();
    private final Baseline baseline = new Baseline();
    private final CountDownLatch firstAttempt = new CountDownLatch(1);
    private final CountDownLatch stop = new CountDownLatch(1);
    private final Thread thread = new Thread(this::run, "mqtt-link");
    private BiConsumer<String, byte[]> commands;
    private MqttAsyncClient client;
    private long nextHeart;

    Link(Settings settings) {
        this.settings = settings;
        this.wire = new Wire(settings);
    }

    /** @param commands gets the topic's last level and the payload, on the client library's thread */
    void start(BiConsumer<String, byte[]> commands) {
        this.commands = commands;
        thread.setDaemon(true);
        thread.start();
    }

    /** Returns once the link is up, or at once when that fails: it goes on trying either way. */
    void awaitFirstAttempt() {
        try {
            if (!firstAttempt.await(15, TimeUnit.SECONDS)) {
                LOG.warn("no answer from {} yet", settings.brokerUri());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** The outcome of a command: published even if that takes until after the next connect. */
    void reply(String kind, Object data) {
        outbox.add(message(kind, data, true));
    }

    /** The answer to a question: of no use to anybody once the connection it came by is gone. */
    void answer(String kind, Object data) {
        outbox.add(message(kind, data, false));
    }

    void baselineAnswered() {
        baseline.answered();
    }

    /** Says goodbye and disconnects. */
    void stop() {
        stop.countDown();
        outbox.wake();
        try {
            thread.join(2 * LEAVE_MS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void run() {
        long pause = FIRST_PAUSE_MS;
        while (stop.getCount() > 0) {
            long connectedAt = 0;
            try {
                connect();
                connectedAt = System.nanoTime();
                LOG.info("connected to {} as {}", settings.brokerUri(), settings.id());
                firstAttempt.countDown();
                serve();
            } catch (InterruptedException e) {
                return;
            } catch (MqttException | RuntimeException e) {
                if (stop.getCount() > 0) {
                    LOG.warn("no connection to {}: {}, next attempt in {} ms", settings.brokerUri(), cause(e), pause);
                }
            } finally {
                firstAttempt.countDown();
                close();
            }
            boolean wasGood = connectedAt != 0 && System.nanoTime() - connectedAt > GOOD_NANOS;
            pause = wasGood ? FIRST_PAUSE_MS : pause;
            try {
                stop.await(pause, TimeUnit.MILLISECONDS);
            } catch (InterruptedException e) {
                return;
            }
            pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
        }
    }

    private void connect() throws MqttException {
        MqttConnectOptions options = new MqttConnectOptions();
        options.setCleanSession(true);
        options.setKeepAliveInterval(KEEP_ALIVE_SECONDS);
        options.setConnectionTimeout(5);
        options.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
        options.setSocketFactory(settings.tls() ? SSLSocketFactory.getDefault() : new NoDelaySockets());
        if (!settings.user().isEmpty()) {
            options.setUserName(settings.user());
            options.setPassword(settings.password().toCharArray());
        }
        // What the broker tells the others if this JVM dies without a word.
        options.setWill(settings.topic("base/heart"), wire.message(wire.heart("deactivated", 0)), QOS, false);

        client = new MqttAsyncClient(settings.brokerUri(), settings.clientPrefix() + "@@@" + settings.id(),
                new MemoryPersistence());
        client.setCallback(new Callback());
        client.connect(options).waitForCompletion(ACKNOWLEDGE_MS);
        IMqttToken subscribed = client.subscribe(
                new String[] {settings.topic("+"), settings.topic("base/baseline")}, new int[] {QOS, QOS});
        subscribed.waitForCompletion(ACKNOWLEDGE_MS);
        for (int granted : subscribed.getGrantedQos()) {
            if (granted > 2) {
                throw new IllegalStateException("the broker refuses the subscription to " + settings.topic("+"));
            }
        }
    }

    /** Returns only when the JVM stops; a connection that is lost throws. */
    private void serve() throws MqttException, InterruptedException {
        outbox.forgetStale();
        baseline.connected();
        nextHeart = System.nanoTime();
        while (stop.getCount() > 0) {
            long now = System.nanoTime();
            if (baseline.due(now)) {
                publish(message("queryBaseline", wire.metadata(), false), ACKNOWLEDGE_MS);
                baseline.asked(System.nanoTime());
            }
            if (nextHeart - now <= 0) {
                publish(message("heart", wire.heart("activated", 0), false), ACKNOWLEDGE_MS);
                nextHeart = System.nanoTime() + TimeUnit.SECONDS.toNanos(settings.heartSeconds());
            }
            if (!client.isConnected()) {
                throw new IllegalStateException("connection lost");
            }
            sendNext(Math.min(nextHeart, baseline.nextLook(nextHeart)) - System.nanoTime(), ACKNOWLEDGE_MS);
        }
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(LEAVE_MS);
        while (!outbox.isEmpty() && System.nanoTime() < deadline) {
            sendNext(0, LEAVE_MS);
        }
        publish(message("heart", wire.heart("deactivated", 0), false), LEAVE_MS);
        client.disconnect(0).waitForCompletion(LEAVE_MS);
    }

    private void sendNext(long waitNanos, long acknowledgeMs) throws MqttException, InterruptedException {
        Outbox.Message message = outbox.next(waitNanos);
        if (message == null) {
            return;
        }
        try {
            publish(message, acknowledgeMs);
        } catch (MqttException | RuntimeException e) {
            outbox.putBack(message);
            throw e;
        }
    }

    private void publish(Outbox.Message message, long acknowledgeMs) throws MqttException {
        client.publish(message.topic(), message.payload(), QOS, false).waitForCompletion(acknowledgeMs);
    }

    private Outbox.Message message(String kind, Object data, boolean keep) {
        return new Outbox.Message(settings.topic("base/" + kind), wire.message(data), keep);
    }

    /** A client is used for one connection only, so that none inherits another one's trouble. */
    private void close() {
        try {
            if (client != null) {
                if (client.isConnected()) {
                    client.disconnectForcibly(0, LEAVE_MS, false);
                }
                client.close(true);
            }
        } catch (MqttException | RuntimeException e) {
            LOG.debug("closing the client", e);
        }
    }

    private static String cause(Exception e) {
        return e.getCause() == null ? e.toString() : e.getMessage() + ", " + e.getCause();
    }

    private final class Callback implements MqttCallback {
        @Override
        public void messageArrived(String topic, MqttMessage message) {
            commands.accept(topic.substring(topic.lastIndexOf('/') + 1), message.getPayload());
        }

        @Override
        public void connectionLost(Throwable cause) {
            LOG.warn("connection lost: {}", String.valueOf(cause));
            outbox.wake();
        }

        @Override
        public void deliveryComplete(IMqttDeliveryToken token) {}
    }
}
