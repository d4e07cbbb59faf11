package modulet.tunnel;

import com.alipay.sofa.koupleless.arklet.core.ArkletComponentRegistry;
import com.alipay.sofa.koupleless.arklet.core.api.tunnel.Tunnel;
import com.alipay.sofa.koupleless.arklet.core.api.tunnel.http.HttpTunnel;
import com.alipay.sofa.koupleless.arklet.core.command.CommandService;
import com.alipay.sofa.koupleless.arklet.core.hook.base.BaseMetadataHook;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Says over HTTP that this base is there, as later versions of arklet do by themselves. Commands then come to arklet's
 * own HTTP server, which needs nothing of ours. Nothing stops the heartbeats: what one of them meets is a line in the log.
 */
public final class HttpHeartbeat implements Tunnel {
    private static final Logger LOG = LoggerFactory.getLogger(HttpHeartbeat.class);
    private static final int CONNECT_MILLIS = 30_000;
    private static final int READ_MILLIS = 10_000;

    private final Settings settings = Settings.OWN;
    private final Wire wire = new Wire(settings);
    private ScheduledExecutorService beats;
    private int port;
    /** How the last heartbeat went, so that an outage is one line when it begins and one when it ends. */
    private String last = "";

    @Override
    public void init(CommandService unused, BaseMetadataHook alsoUnused) {
        // The hook of this arklet knows a name and a version only; the settings say the rest too.
    }

    @Override
    public synchronized void run() {
        if (beats == null) {
            port = arkletPort();
            beats = Executors.newSingleThreadScheduledExecutor(task -> {
                Thread thread = new Thread(task, "http-heartbeat");
                thread.setDaemon(true);
                return thread;
            });
            beats.scheduleAtFixedRate(this::beat, 0, settings.heartSeconds(), TimeUnit.SECONDS);
        }
    }

    @Override
    public synchronized void shutdown() {
        if (beats != null) {
            beats.shutdownNow();
        }
    }

    /** Where commands come to: arklet's own server runs by now, and nobody else knows which port it has chosen. */
    private static int arkletPort() {
        return ArkletComponentRegistry.getApiClientInstance().getTunnels().stream()
                .filter(HttpTunnel.class::isInstance)
                .map(tunnel -> (Integer) Wire.field(tunnel, "port"))
                .findFirst().orElseThrow();
    }

    private void beat() {
        String outcome;
        try {
            int status = post();
            outcome = status == HttpURLConnection.HTTP_OK ? "is heard" : "is answered with status " + status;
        } catch (IOException | RuntimeException e) {
            outcome = "does not arrive: " + e;
        }
        if (!outcome.equals(last)) {
            last = outcome;
            LOG.info("the heartbeat to {} {}", settings.endpoint(), outcome);
        }
    }

    private int post() throws IOException {
        byte[] body = Wire.JSON.writeValueAsBytes(wire.heart("activated", port));
        HttpURLConnection connection =
                (HttpURLConnection) URI.create(settings.endpoint() + "/heartbeat").toURL().openConnection();
        connection.setConnectTimeout(CONNECT_MILLIS);
        connection.setReadTimeout(READ_MILLIS);
        connection.setInstanceFollowRedirects(false);
        connection.setRequestMethod("POST");
        connection.setRequestProperty("Content-Type", "application/json");
        connection.setDoOutput(true);
        connection.setFixedLengthStreamingMode(body.length);
        try {
            connection.getOutputStream().write(body);
            return connection.getResponseCode();
        } finally {
            connection.disconnect();
        }
    }
}
