package modulet.tunnel;

import com.alipay.sofa.koupleless.arklet.core.api.tunnel.Tunnel;
import com.alipay.sofa.koupleless.arklet.core.command.CommandService;
import com.alipay.sofa.koupleless.arklet.core.hook.base.BaseMetadataHook;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Connects arklet, which installs and uninstalls modules in this JVM, to an MQTT broker. arklet makes the object (so it
 * needs a public constructor without arguments) while Spring starts, and calls init and run.
 */
public final class MqttTunnel implements Tunnel {
    private final AtomicBoolean running = new AtomicBoolean();
    private CommandService arklet;
    private Link link;

    @Override
    public void init(CommandService commandService, BaseMetadataHook unused) {
        // The hook of this arklet knows a name and a version only; the settings say the rest too.
        arklet = commandService;
    }

    @Override
    public void run() {
        if (!running.compareAndSet(false, true)) {
            return;
        }
        link = new Link(Settings.OWN);
        link.start(new Commands(arklet, link, Settings.OWN.workers()));
        // Nobody else calls shutdown().
        Runtime.getRuntime().addShutdownHook(new Thread(this::shutdown, "mqtt-shutdown"));
        // Spring has not reported its start yet: whoever waits for that finds the base listening, if the broker is there.
        link.awaitFirstAttempt();
    }

    @Override
    public void shutdown() {
        if (running.compareAndSet(true, false)) {
            link.stop();
        }
    }
}
