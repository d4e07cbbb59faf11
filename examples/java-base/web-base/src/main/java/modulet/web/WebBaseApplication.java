package modulet.web;

import modulet.tunnel.MqttTunnel;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** {@code BaseApplication} with a web server that web modules share. What differs is said here. */
@SpringBootApplication(proxyBeanMethods = false)
public class WebBaseApplication {
    private static final Logger LOG = LoggerFactory.getLogger(WebBaseApplication.class);

    public static void main(String[] args) {
        System.setProperty("sofa.ark.embed.enable", "true");
        System.setProperty("koupleless.arklet.custom.tunnel.classname", MqttTunnel.class.getName());
        System.setProperty("spring.application.name", MqttTunnel.SETTINGS.name());
        // See SharedTomcat.
        System.setProperty("ark.plugin.active.exclude", SharedTomcat.REPLACES);
        // A property of the JVM, so that modules have it too: modules with another port would open a server of their own.
        System.setProperty("server.port", String.valueOf(MqttTunnel.SETTINGS.httpPort()));

        SpringApplication application = new SpringApplication(WebBaseApplication.class);
        application.setBannerMode(Banner.Mode.OFF);
        application.addInitializers(context -> SharedTomcat.publish());
        try {
            var environment = application.run(args).getEnvironment();
            LOG.info("BASE STARTED {} http://{}:{}", MqttTunnel.SETTINGS.id(), MqttTunnel.SETTINGS.ip(),
                    environment.getProperty("local.server.port"));
        } catch (Throwable e) {
            LOG.error("the base cannot start", e);
            System.exit(1);
        }
    }
}
